-- SPDX-License-Identifier: BSD-2-Clause
-- The control socket: requests, events, and clients that do not behave.
local uv = require "luv"
local bpf = require "moonbee"
local loop = require "moonbee.loop"
local control = require "moonbee.control"
local run = require "support.run"
local support = require "support.bpf"

local NAME = "spec"

control.register("spec_echo", function(host, request, c)
  return { host = host.name, uid = c.uid, pid = c.pid, x = request.x }
end)
control.register("spec_fail", function(_, request)
  if request.plain then error("plain text", 0) end
  error(bpf.error { code = "ENOENT", op = "find", subject = "x", cause = "it is gone", hint = "h" })
end)
control.register("spec_slow", function(_, request)
  loop.sleep(request.seconds)
  return request.seconds
end)
control.register("spec_parts", function(_, request, c)
  for i = 1, request.n do c:part(request, ("x"):rep(request.bytes or 1) .. i) end
  return request.n
end)

describe("the control socket", function()
  -- fn(server) in a running loop with a server; what it raises is raised here.
  local function serve(fn, options)
    local base = assert(uv.fs_mkdtemp "/tmp/moonbee-control-XXXXXX")
    uv.os_setenv("MOONBEE_RUNTIME_DIR", base)
    local dir = bpf.rundir.open(NAME)
    local errors = {}
    local host = { name = NAME, console = "ro", log = {
      error = function(_, text) errors[#errors + 1] = text end, warn = function() end } }
    for k, v in pairs(options or {}) do host[k] = v end
    local ok, why
    loop.signal("SIGPIPE", function() end) -- the program has a handler of its own
    loop.spawn(function()
      local server = control.serve(host, dir)
      ok, why = xpcall(fn, debug.traceback, server)
      server:close()
      loop.stop()
    end)
    loop.run()
    dir:close()
    run { "/bin/rm", "-rf", base }
    uv.os_unsetenv "MOONBEE_RUNTIME_DIR"
    if not ok then error(why, 0) end
    assert.same({}, errors)
  end

  -- For what only the server's own numbers tell: turn after turn of the loop.
  local function until_so(what)
    local deadline = uv.hrtime() + (support.slow and 60e9 or 10e9)
    while not what() do
      if uv.hrtime() > deadline then error("did not come true in time", 2) end
      loop.sleep(0)
    end
  end

  local function closed(client)
    loop.await(function(wake) client:on_close(wake) end)
  end

  -- A connection by hand: raw lines.
  local function raw()
    local fd = bpf.rundir.connect(NAME)
    local pipe = uv.new_pipe(false)
    pipe:open(fd)
    local pieces = {}
    local self = setmetatable({ pipe = pipe }, { __index = function(_, name)
      if name ~= "text" then return nil end
      pieces = { table.concat(pieces) }
      return pieces[1]
    end })
    local function heard()
      local wake = self.wake
      self.wake = nil
      if wake then wake() end
    end
    function self.listen()
      pipe:read_start(function(_, data)
        if data then pieces[#pieces + 1] = data else self.closed = true end
        heard()
      end)
    end
    local function wait_for(what, is_so)
      local late
      local timer = loop.after(support.slow and 60 or 10, function()
        late = true
        heard()
      end)
      while not is_so() do
        if late then error("no " .. what .. " in " .. self.text:sub(-300)) end
        loop.await(function(wake) self.wake = wake end)
      end
      timer:stop()
    end
    function self.expect(pattern)
      local seen, tail = 0, self.text
      wait_for(pattern, function() -- only in what is new: it may be much
        tail = tail:sub(-300) .. table.concat(pieces, "", seen + 1)
        seen = #pieces
        return tail:find(pattern)
      end)
    end
    function self.expect_end()
      wait_for("end", function() return self.closed end)
    end
    return self
  end

  -- client.connect turns the loop itself, which a coroutine of it cannot: a process of its own.
  local function script(code)
    local path = os.tmpname()
    local file <close> = assert(io.open(path, "w"))
    file:write("local c <close> = require 'moonbee.client'.connect 'spec'\n" .. code)
    file:close()
    local r = loop.exec({ support.moonbee, "run", path }, { timeout = 20 })
    os.remove(path)
    return { rc = r.code, out = r.out .. r.err }
  end

  it("greets, answers, and tells failures as they are", function()
    serve(function()
      local r = script [[
        local bpf = require "moonbee"
        print(c.hello.moonbee == bpf.version, c.hello.protocol, c.hello.name, c.hello.console)
        local x = c:request("spec_echo", { x = { 1, "zwei", 3.5, true, 1 << 60 } })
        print(x.host, x.uid == require "luv".getuid(), x.pid == require "luv".os_getpid(),
          x.x[1], x.x[2], x.x[3], x.x[4], x.x[5])
        local ok, err = pcall(c.request, c, "spec_fail")
        print(ok, err.code, err.op, err.hint, tostring(err))
        print(select(2, pcall(c.request, c, "spec_fail", { plain = true })))
        print(select(2, pcall(c.request, c, "nope")))
        local parts = {}
        print(c:request("spec_parts", { n = 3 }, function(p) parts[#parts + 1] = p end),
          table.concat(parts, " "))]]
      assert.same({ rc = 0, out = table.concat({
        "true\t1\tspec\tro",
        "spec\ttrue\ttrue\t1\tzwei\t3.5\ttrue\t1152921504606846976",
        "false\tENOENT\tfind\th\tfind 'x': it is gone (ENOENT)", "hint: h",
        "ask policy 'spec': plain text (EINVAL)",
        "answer request 'control socket': there is no request 'nope' (ENOSYS)",
        "3\tx1 x2 x3", "" }, "\n") }, r)
    end)
  end)

  it("answers each request when it is done", function()
    serve(function()
      local c = raw()
      c.listen()
      c.pipe:write('{"protocol":1,"id":1,"request":"spec_slow","seconds":0.1}\n'
        .. '{"protocol":1,"id":2,"request":"spec_slow","seconds":0}\n')
      c.expect '"id":1'
      assert.is_true(c.text:find '"id":2' < c.text:find '"id":1')
      c.pipe:close()
    end)
  end)

  it("closes on a line that is nested without end", function()
    serve(function()
      local c = raw()
      c.listen()
      c.pipe:write(("["):rep(500000) .. "\n")
      c.expect "EBADMSG"
      c.expect_end()
      c.pipe:close()
    end)
  end)

  it("takes a request in pieces, and several at once", function()
    serve(function()
      local c = raw()
      c.listen()
      for byte in ('{"protocol":1,"id":1,"request":"spec_slow","seconds":0}'):gmatch "." do
        c.pipe:write(byte)
      end
      local other = raw() -- what it sends later is answered: so that came, and was not
      other.listen()
      other.pipe:write '{"protocol":1,"id":2,"request":"spec_slow","seconds":0}\n'
      other.expect '"id":2,"ok":true'
      other.pipe:close()
      assert.falsy(c.text:find '"id":1')
      c.pipe:write "\n\n\n"
      c.expect '"id":1,"ok":true'
      c.pipe:close()
    end)
  end)

  it("refuses another protocol and what is no request", function()
    serve(function()
      local c = raw()
      c.listen()
      c.pipe:write '{"protocol":2,"id":1,"request":"status"}\n{"protocol":1,"id":2}\n'
      c.expect 'EPROTO.-it is of protocol 2, and this is 1'
      c.expect 'it names no request'
      c.pipe:write 'GET / HTTP/1.0\n'
      c.expect 'a line that is no JSON object'
      c.expect_end()
      c.pipe:close()
    end)
  end)

  it("closes a client whose line does not end", function()
    serve(function()
      local c = raw()
      c.listen()
      local block = ("x"):rep(1 << 16)
      for _ = 1, 20 do c.pipe:write(block) end
      c.expect 'a request of more than 1 MiB'
      c.expect_end()
      c.pipe:close()
    end)
  end)

  it("sends events to those who asked", function()
    serve(function(server)
      local a, b = raw(), raw()
      a.listen()
      b.listen()
      a.pipe:write '{"protocol":1,"id":1,"request":"subscribe","events":["reload"]}\n'
      a.expect '"id":1'
      server:event("reload", { n = 1 })
      server:event("log", { n = 2 })
      server:event("reload", { n = 3 })
      a.expect '{"data":{"n":3},"event":"reload"}'
      assert.falsy(a.text:find '"n":2')
      b.expect "protocol"
      assert.falsy(b.text:find "event")
      a.pipe:close()
      b.pipe:close()
    end)
  end)

  it("leaves events out for a client that does not read, and says how many", function()
    serve(function(server)
      local c = raw()
      c.pipe:write '{"protocol":1,"id":1,"request":"subscribe","events":["log"]}\n'
      c.listen()
      c.expect '"id":1,"ok":true'
      c.pipe:read_stop()
      local text = ("x"):rep(10000)
      local start = uv.hrtime()
      for i = 1, 200 do server:event("log", { n = i, text = text }) end
      assert.is_true((uv.hrtime() - start) / 1e9 < 5)
      local client_of = next(server.clients)
      assert.is_true(client_of:queued() < control.MAX_QUEUE + 20000)
      c.listen()
      until_so(function() return client_of:queued() == 0 end)
      server:event("log", { n = 201 })
      c.expect '"n":201},"dropped":%d+'
      local _, got = c.text:gsub('"event"', "")
      assert.equal(201, got + c.text:match '"dropped":(%d+)')
      c.pipe:close()
    end)
  end)

  it("lets a request wait whose client does not read, and ends it with the client", function()
    serve(function(server)
      local c = raw()
      c.pipe:write '{"protocol":1,"id":1,"request":"spec_parts","n":200,"bytes":10000}\n'
      until_so(function()
        local at = next(server.clients)
        return at and at:queued() > control.MAX_QUEUE
      end)
      local at = next(server.clients)
      assert.is_true(at:queued() < control.MAX_QUEUE + 50000)
      assert.equal(1, at.at_hand)
      c.listen()
      c.expect '"id":1,"ok":true,"result":200'
      c.pipe:close()
      local gone = raw()
      gone.pipe:write '{"protocol":1,"id":1,"request":"spec_parts","n":200,"bytes":10000}\n'
      until_so(function()
        at = next(server.clients)
        return at and at:queued() > control.MAX_QUEUE
      end)
      gone.pipe:close()
      closed(at)
      until_so(function() return at.at_hand == 0 end)
      assert.equal(0, server.count)
    end)
  end)

  it("closes one that reads nothing for long", function()
    local before = control.STALL
    control.STALL = 0.5
    local ok, err = pcall(serve, function(server)
      local c = raw()
      c.pipe:write '{"protocol":1,"id":1,"request":"spec_parts","n":200,"bytes":10000}\n'
      until_so(function() return server.count == 1 end)
      closed(next(server.clients))
      assert.equal(0, server.count)
      c.pipe:close()
    end)
    control.STALL = before
    if not ok then error(err, 0) end
  end)

  it("has a bound for clients and for requests at hand", function()
    serve(function(server)
      local all = {}
      for i = 1, control.MAX_CLIENTS do
        all[i] = raw()
        loop.sleep(0) -- to connect waits where none is accepted
      end
      until_so(function() return server.count == control.MAX_CLIENTS end)
      local late = raw()
      late.listen()
      late.expect_end()
      late.pipe:close()
      all[1].listen()
      for i = 1, control.MAX_REQUESTS + 1 do
        all[1].pipe:write(('{"protocol":1,"id":%d,"request":"spec_slow","seconds":0.1}\n')
          :format(i))
      end
      all[1].expect 'too many requests at hand'
      all[1].expect(('"id":%d,"ok":true'):format(control.MAX_REQUESTS))
      for _, c in ipairs(all) do c.pipe:close() end
    end)
  end)

  it("lets what was answered go out at its end, and waits a second for those who do not read",
    function()
      serve(function(server)
        local c, slow = raw(), raw()
        c.pipe:write '{"protocol":1,"id":1,"request":"spec_parts","n":50,"bytes":10000}\n'
        slow.pipe:write '{"protocol":1,"id":1,"request":"spec_parts","n":200,"bytes":10000}\n'
        until_so(function()
          local there = 0
          for client in pairs(server.clients) do
            local all = client.at_hand == 0 and client:queued() > 100000
            if all or client:queued() > control.MAX_QUEUE then there = there + 1 end
          end
          return there == 2
        end)
        c.listen()
        local start = uv.hrtime()
        server:finish()
        local took = (uv.hrtime() - start) / 1e9
        assert.is_true(took > 0.9 and took < 5, took)
        c.expect '"id":1,"ok":true,"result":50'
        c.expect_end()
        c.pipe:close()
        slow.pipe:close()
      end)
      serve(function(server)
        local c = raw()
        c.listen()
        c.expect '"protocol":1'
        local start = uv.hrtime()
        server:finish()
        assert.is_true((uv.hrtime() - start) / 1e9 < 0.9)
        c.expect_end()
        c.pipe:close()
      end)
    end)

  it("says what runs when none of the name does", function()
    serve(function()
      local r = script [[
        local connect = require "moonbee.client".connect
        print(select(2, pcall(connect, "other")))
        print(select(2, pcall(connect, "../x")))]]
      assert.matches("connect to policy 'other': no policy of this name runs %(ENOENT%)\n"
        .. "hint: running: spec\n", r.out)
      assert.matches("open run directory '../x': it is no name of a policy %(EINVAL%)", r.out)
    end)
  end)
end)
