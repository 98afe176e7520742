import { describe, expect, it } from 'vitest';
import { eventLoopDelay } from '../../dist/bench/event-loop.js';
import { statespace } from '../support/cli.js';
import { least } from '../support/stalls.js';

// The layers of a 130M Mamba, fewer and narrower: a forward of 8,192 tokens in about a second.
const mamba = {
  ...{ model_type: 'mamba', vocab_size: 1000, hidden_size: 192, num_hidden_layers: 8, state_size: 16, conv_kernel: 4 },
  ...{ expand: 2, time_step_rank: 12, use_bias: false, use_conv_bias: true, layer_norm_epsilon: 1e-5 },
  tie_word_embeddings: true,
};

describe('the event loop', () => {
  it('is free during a forward: p99 of its delay below 20 ms', async () => {
    // Whatever else this machine runs delays it too: the best says what we do.
    const delay = async () => {
      const { samples, p99 } = await eventLoopDelay(mamba, 8192);
      // A forward on this thread would leave no samples at all.
      return samples > 20 ? p99 : Number.POSITIVE_INFINITY;
    };
    expect(await least(20, delay)).toBeLessThan(20);
  });

  it('is measured by a command', async () => {
    const args = ['bench', 'event-loop', '--parameters', '1M', '--d-model', '64', '--tokens', '64'];
    const { code, stdout } = await statespace(args);
    expect(code).toBe(0);
    expect(stdout).toMatch(/^Mamba, .* parameters, 64 tokens in .*\ndelay of the event loop: median .* p99 /);
    expect((await statespace([...args, '--family', 'gpt'])).code).toBe(2);
  });
});
