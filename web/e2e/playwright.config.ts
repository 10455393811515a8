// How the browser tests run. They need a server, whose address is in DUOLOGUE_URL; `cargo xtask e2e`
// builds one, starts it with the mock model, and runs them.

import { defineConfig } from "@playwright/test";

const baseURL = process.env.DUOLOGUE_URL;
if (!baseURL) throw new Error("DUOLOGUE_URL is not set; run `cargo xtask e2e`");

export default defineConfig({
  testDir: ".",
  outputDir: "artifacts/results",
  forbidOnly: true,
  // A test that passes only sometimes is a finding, not a nuisance.
  retries: 0,
  workers: 2,
  fullyParallel: true,
  timeout: 90_000,
  expect: { timeout: 30_000 },
  reporter: [["list"]],
  use: {
    baseURL,
    browserName: "chromium",
    viewport: { width: 1280, height: 800 },
    // The film of a trace costs more than the test that it shows.
    trace: { mode: "retain-on-failure", screenshots: false },
    screenshot: "only-on-failure",
    launchOptions: {
      executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
      args: [
        // Containers have no user namespaces for the sandbox, and the pages are our own.
        "--no-sandbox",
        "--disable-gpu",
        "--disable-quic",
        "--no-first-run",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
      ],
    },
  },
});
