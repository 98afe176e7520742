# The engine and its server at full size: 10,000 random trees of prompts, 200 kills of servers and workers.
serving_tests() { npm run --silent build && STATESPACE_LONG=1 npx vitest run test/engine test/server; }
need chromium chromium && need redis-server redis-server
counted 'serving: 10,000 random trees, 1,000 dropped connections, 200 kills of servers and workers' serving_tests
