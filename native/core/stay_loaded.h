#pragma once
// Keeps this library in memory for as long as the process lives. Node unloads an addon when the last environment that
// loaded it ends; where that was a worker_thread's, the addon's own threads would be left without the code they run.
namespace statespace {

void stay_loaded();

}  // namespace statespace
