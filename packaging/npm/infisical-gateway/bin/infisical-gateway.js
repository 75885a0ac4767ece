#!/usr/bin/env node
"use strict";
// Runs the program for this kind of machine, which npm installs as an optional dependency.

const { spawn } = require("node:child_process");
const { constants } = require("node:os");

// As in sysexits.h: something that is needed is unavailable.
const UNAVAILABLE = 69;
// What the program acts on, or a terminal sends.
const FORWARDED = ["SIGHUP", "SIGINT", "SIGQUIT", "SIGTERM", "SIGUSR1", "SIGUSR2"];

function fail(message) {
  console.error(`infisical-gateway: ${message}`);
  process.exit(UNAVAILABLE);
}

function locate() {
  const name = `infisical-gateway-${process.platform}-${process.arch}`;
  try {
    return require.resolve(`${name}/bin/infisical-gateway`);
  } catch {
    return fail(
      `the package ${name} is not installed. If there is one for this machine, install without --omit=optional; ` +
        "otherwise build the program from its source.",
    );
  }
}

const program = locate();
const child = spawn(program, process.argv.slice(2), { stdio: "inherit" });
child.on("error", (error) => fail(`${program} cannot be executed: ${error.message}`));
for (const signal of FORWARDED) {
  process.on(signal, () => child.kill(signal));
}
child.on("exit", (code, signal) => {
  process.exit(signal === null ? code : 128 + constants.signals[signal]);
});
