// Preloaded into Azurite: it looks every second for values that were replaced. Every ten minutes, as it would, there are
// so many that it answers nobody for minutes, at a millisecond or more for each.
"use strict";
const path = require("path");

const constants = require(path.join(path.dirname(process.argv[1]), "utils", "constants.js"));
if (!(constants.DEFAULT_GC_INTERVAL_MS > 1000)) {
  throw new Error(`DEFAULT_GC_INTERVAL_MS of Azurite: expected minutes, got ${constants.DEFAULT_GC_INTERVAL_MS}`);
}
constants.DEFAULT_GC_INTERVAL_MS = 1000;
