---@meta moonbee.metrics
-- SPDX-License-Identifier: BSD-2-Clause

---Variables, maps and readers for Prometheus and its kin: require "moonbee.metrics". They are read under
---names, as OpenMetrics or in Prometheus's older text format. Policies have the same in their key
---`metrics`. moonbee.metrics_table and moonbee.metric say what a table of metrics has.
---@class moonbee.metrics
local metrics = {}

---What a scrape measures. The list's entries, and:
---@class moonbee.metrics_table
---@field [integer] moonbee.metric
---@field object? moonbee.object scripts: whose variables, maps and programs the entries name
---@field vars? moonbee.view scripts: variables in place of the object's: bpf.vars(program)
---@field readers? moonbee.reader[] scripts: that entries name; moonbee_reader_… tells of all of them
---@field listen? string|string[]|false policies: "127.0.0.1:9435", "[::1]:9435", a path; by default metrics.sock
--- in the run directory; false: only `moonbee ctl NAME metrics`
---@field stats? boolean policies: the kernel counts runs of programs while this version is in force
---@field max_series? integer what is beyond is left out of a scrape, and counted; 10000

---One entry: a source, and what its series are. Entries of the same name are one family, which their
---labels tell apart. What comes for the same labels is added up.
---
---A path goes as in C: "stats.packets", "limits[3].rate". One that leads over an array, or ends in a
---struct, is several numbers: each of the labels in index tells them apart, or sum = true adds them up.
---
---The key of a map becomes labels: those that key names, or every field of a struct. Values are added
---up over CPUs, unless cpu is a label for these.
---@class moonbee.metric
---@field name string of the family: counters get their _total in the text
---@field type "counter"|"gauge"|"histogram"|"info"
---@field help? string
---@field unit? string the name must end in it: "seconds", "bytes"
---@field scale? number multiplies: 1e-9 makes seconds of nanoseconds, with every digit of 64 bits
---@field labels? table<string, string|number|boolean> the same for all of its series
---@field var? string a path in the object's variables
---@field map? string|moonbee.map by name, or any handle
---@field reader? string|moonbee.reader by the map's name
---@field program? string|moonbee.program
---@field read? fun(ctx: moonbee.ctx|nil): number|table|nil measures by itself: a number, or a list
--- { { 5, cpu = "0" }, … }; nil: nothing now. In a policy it may only read, and has the policy's deadline
---@field vars? table<string, string> of an info: label = path
---@field index? string|string[] var: labels of what the path goes over; of a struct: its fields' names
---@field fields? string[] var: of the struct at its end only these
---@field sum? boolean|string true: all of it in one number; of a histogram the path of what adds up the values
---@field key? string|table map: a label for a key that is one value; or { "dport", client = "saddr" }: parts of it; {}: none
---@field value? string map: the path in its value
---@field cpu? string map: a label, so that CPUs are not added up
---@field count? boolean map: how many entries it has
---@field as? table<string, string|table> label = "ip" | "mac" | "hex" | "ntoh" | "ksym" | "ifname" | "enum NAME" |
--- { [0] = "pass", "drop" }: how its text is made. Enumerators are their names anyway
---@field buckets? "log2"|"bits"|number[] histogram: element n counts 2^n to 2^(n+1)-1, or 2^(n-1) to 2^n-1, or what is
--- up to the n-th number. Programs count what is too large in their last element, so that one has no bound
---@field bucket? string histogram of a map: the part of its key that is the bucket
---@field slots? integer histogram of a map that is no array: how many buckets
---@field field? string reader: "consumed" (default), "lost", "pending", "size"; program: "run_count" (default),
--- "run_time_ns", "recursion_misses"
local metric = {}

---A set of metrics, checked by BTF now: what it names must be there.
---
---Raises EINVAL (a wrong key or value) and ENOENT (no such variable, map, program; the hint has the
---nearest name). A scrape raises nothing: an entry that fails is left out, moonbee_scrape_errors_total
---counts it, and stderr says once why.
---```lua
---local bpf = require "moonbee"
---local metrics = require "moonbee.metrics"
---local obj <close> = bpf.load "flow.bpf.o"
---local set = metrics.new {
---  object = obj,
---  { name = "flow_packets", type = "counter", map = "flows", value = "packets",
---    key = { client = "saddr" }, as = { client = "ip" } },
---  { name = "flow_wait_seconds", type = "histogram", var = "waits", buckets = "log2", scale = 1e-6,
---    unit = "seconds" },
---}
---print(set:text())
---```
---@param t moonbee.metrics_table
---@return moonbee.metrics_set
function metrics.new(t) end

---Serve a set over HTTP/1.1, GET /metrics, while the loop runs: on a socket file (mode 0660; one that
---nobody listens on any more is replaced) or a port of the loopback. What the client accepts decides
---between the two formats.
---
---Raises EINVAL (an address that is not this machine's own), EADDRINUSE, EACCES and the like.
---```lua
---local bpf = require "moonbee"
---local loop = require "moonbee.loop"
---local metrics = require "moonbee.metrics"
---local obj <close> = bpf.load "flow.bpf.o"
---metrics.serve("127.0.0.1:9435", {
---  object = obj,
---  { name = "flow_packets", type = "counter", var = "stats.packets" },
---})
---loop.run()
---```
---@param address string "127.0.0.1:9435", "localhost:0" (the system chooses), "/run/x.sock"
---@param set moonbee.metrics_set|moonbee.metrics_table
---@return { address: string, stop: fun(self) } server
function metrics.serve(address, set) end

---@class moonbee.metrics_set
local set = {}

---Measure all of it, as text. For node_exporter's textfile collector: "prometheus".
---```lua
---local metrics = require "moonbee.metrics"
---local set = metrics.new { { name = "answers", type = "gauge", read = function() return 42 end } }
---io.stdout:write(set:text "openmetrics")
---```
---@param kind? "prometheus"|"openmetrics" default: "prometheus"
---@return string
function set:text(kind) end

return metrics
