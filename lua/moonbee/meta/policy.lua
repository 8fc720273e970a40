---@meta
-- SPDX-License-Identifier: BSD-2-Clause

---A policy: what a file for `moonbee policy FILE` returns. All but start is optional; unknown keys are
---refused. The file runs in a Lua state of its own, with a memory limit and a deadline for each
---call; `require` finds modules beside it.
---```lua
---local policy = { object = "flow.bpf.o", params = { ifname = "eth0" } }
---function policy.attach(params) return { on_xdp = { ifname = params.ifname } } end
---function policy.start(ctx, state)
---  ctx.state = state or { seen = 0 }
---  ctx:on("events", "struct event", function(pid)
---    ctx.state.seen = ctx.state.seen + 1
---    ctx.log.info("%d so far, the last by %d", ctx.state.seen, pid)
---  end, "pid")
---end
---return policy
---```
---@class moonbee.policy
---@field object? string path of the object, from the policy's directory
---@field open? moonbee.open options of bpf.open
---@field pin_root? string pins the maps that are marked in C
---@field persist? boolean links, programs and maps stay in force when the process ends, under
--- pin_root/_moonbee/NAME, and the next process takes them over; `moonbee ctl NAME stop` ends that
---@field on_mismatch? "error"|"replace"|"migrate"|"adopt"|"keep"|fun(diff: table, map: string): string a
--- map of the new object differs from the one in force (or from its pin): by default the reload fails. A function gets
--- the differences (as bpf.diff of the two maps) and the map's name. Pins change when the version is in force
---@field attach? table<string, moonbee.attach|moonbee.attach[]|boolean>|fun(params: table): table by
--- program (or struct_ops map): options, a list of them, false: not at all; true, or not named: as its section says
---@field params? table<string, string|number|boolean> defaults; --param NAME=VALUE overrides
---@field uses? { pins: string[]|nil, kernel: boolean|nil, files: string[]|nil } what it may use beyond its object
---@field limits? { memory: integer|nil, deadline: number|nil, finish: number|nil, errors: { count: integer, seconds: number }|nil }
--- bytes; seconds for each call; seconds (5) for which a reload waits for handlers that wait in the middle of a record:
--- what they have not ended by then is dropped, and the plan says so; more errors of handlers than that in a window roll back
---@field allow_gap? boolean a link that can neither be updated nor overlap may be away for a moment
--- A link that the kernel cannot update (kprobe, tracepoint, fentry, …) overlaps in a reload with a new object: the new
--- program is attached, then the old one detached. No event is lost, and one that comes in between is handled by both.
--- The plan names these links, before (ctl NAME reload --dry-run) and after, and says for each program how many events
--- that were, as the kernel counted them: exact, or a range as wide as there are CPUs where events come without a pause
---@field keep_timers? boolean|string[] keep maps that hold timers (all, or these)
---@field version? string|number for status, and for the next version's start
---@field metrics? moonbee.metrics_table what Prometheus may read of it: GET /metrics on a socket in the run directory, or
--- where listen says; `moonbee ctl NAME metrics` prints the same. It is checked when a version is staged; places that
--- an edit does not change stay open over reloads; a scrape neither ends nor holds up the policy
---@field tests? table<string|integer, table|fun(obj: moonbee.object, t: table)> run before it is in force, each on a
--- load of its own: { prog = "on_xdp", data = packet, vars = {…}, expect = { ret = 1, vars = {…} } }; vars by paths
---@field setup? fun(obj: moonbee.object, params: table) opened, not loaded: constants, max_entries, autoload
---@field start fun(ctx: moonbee.ctx, state: any, from: any) may not wait; stores to variables are held back until it
--- is in force, map writes raise (put them into ctx:after(0, fn)); state: what the version before saved
---@field save? fun(ctx: moonbee.ctx): any plain data for the next version; without it ctx.state. One that
--- fails lets no reload through but `moonbee ctl NAME reload --no-state`
---@field stop? fun(ctx: moonbee.ctx, reason: "reload"|"rollback"|"stop"|"exit")

---What start, save and stop work with.
---@class moonbee.ctx
---@field obj moonbee.object|nil
---@field vars moonbee.view|nil
---@field maps table<string, moonbee.map>|nil
---@field progs table<string, moonbee.program>|nil
---@field params table
---@field state any
---@field log { debug: fun(fmt: string, ...), info: fun(fmt: string, ...), warn: fun(fmt: string, ...), error: fun(fmt: string, ...) }
---@field sleep fun(seconds: number) in a handler: only that handler waits
---@field read fun(path: string): string a file that uses.files names
local ctx = {}

---Call fn every so many seconds. A tick that comes while the handler still waits is left out.
---```lua
---local function start(ctx) ctx:every(1, function() ctx.log.info("%d", ctx.vars.hits) end) end
---```
---@param seconds number
---@param fn fun()
---@return { stop: fun(self) }
function ctx:every(seconds, fn) end

---Call fn once. ctx:after(0, fn): as soon as the version is in force.
---```lua
---local function start(ctx) ctx:after(0, function() ctx.maps.flows:clear() end) end
---```
---@param seconds number
---@param fn fun()
---@return { stop: fun(self) }
function ctx:after(seconds, fn) end

---Call fn with each record of a ring, in order: the record as a view, or chosen columns.
---```lua
---local function start(ctx)
---  ctx:on("events", "struct event", function(pid, len) ctx.log.info("%d %d", pid, len) end, "pid",
---    "len")
---end
---```
---@param map string|moonbee.map
---@param typename string|nil
---@param fn fun(...)
---@param ... string columns
---@return { stop: fun(self) }
function ctx:on(map, typename, fn, ...) end

return ctx
