---@meta
-- SPDX-License-Identifier: BSD-2-Clause

---A connection to a running policy: `require "moonbee.client"`. What `moonbee ctl` uses.
---@class moonbee.client_module
local module = {}

---Connect to the policy of this name. Raises: none runs, it is another user's, it does not answer.
---```lua
---local connect = require "moonbee.client".connect
---local client <close> = connect "ratelimit"
---print(client:request("get", { path = "rate" }).value)
---client:request("set", { path = "rate", value = "10k" })
---```
---@param name string
---@param user? string name or number of the user whose policy it is: for root
---@return moonbee.client
function module.connect(name, user) end

---@class moonbee.client
---@field hello { moonbee: string, protocol: integer, name: string, pid: integer, console: string }
---@field closed boolean|nil
local client = {}

---Ask, and wait for the answer: in a coroutine of the loop only that one waits. Requests: status,
---vars, get { path }, set { path, value }, journal, undo { n }, plan, reload { fresh, no_state, dry_run },
---rollback, stop, subscribe { events }.
---
---Raises what went wrong there, as an error object.
---```lua
---local client <close> = require "moonbee.client".connect "ratelimit"
---print(client:request("status").state)
---```
---@param name string
---@param arguments? table
---@param on_part? fun(text: string)
---@return any
function client:request(name, arguments, on_part) end

---Ask without waiting: done(ok, result or error) is called by the loop.
---```lua
---local client <close> = require "moonbee.client".connect "ratelimit"
---client:send("reload", nil, nil, function(ok, result) print(ok, result) end)
---```
---@param name string
---@param arguments table|nil
---@param on_part nil|fun(text: string)
---@param done fun(ok: boolean, result: any)
---@return integer|nil id
function client:send(name, arguments, on_part, done) end

---Hear events (after a request "subscribe"); fn(nil, err) is the end.
---```lua
---local client <close> = require "moonbee.client".connect "ratelimit"
---client:on_message(function(event) if event then print(event.event) end end)
---client:request("subscribe", { events = { "reload", "failed" } })
---```
---@param fn fun(event: table|nil, err: any)
function client:on_message(fn) end

---End the connection.
---```lua
---require "moonbee.client".connect("ratelimit"):close()
---```
function client:close() end

return module
