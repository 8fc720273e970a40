-- SPDX-License-Identifier: BSD-2-Clause
-- How metrics are served: HTTP/1.1 on a socket file and on the loopback, and clients that do not
-- behave.
local lfs = require "lfs"
local uv = require "luv"
local bpf = require "moonbee"
local loop = require "moonbee.loop"
local metrics = require "moonbee.metrics"
local http = require "moonbee.metrics.http"
local exposition = require "support.exposition"
local support = require "support.bpf"

local PROMETHEUS = "application/openmetrics-text;version=1.0.0;q=0.5,application/openmetrics-text;"
  .. "version=0.0.1;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2"

describe("metrics over HTTP", function()
  local dir, before
  setup(function()
    dir = assert(uv.fs_mkdtemp "/tmp/moonbee-metrics-XXXXXX")
    before = {}
    for key, value in pairs(http) do before[key] = value end
  end)
  teardown(function() assert(uv.fs_rmdir(dir)) end)
  after_each(function()
    for key, value in pairs(before) do http[key] = value end
  end)

  -- fn(server) in a running loop; nothing may be left, and no error of ours be told.
  local function serve(entries, fn, address)
    local errors, ok, why = loop.errors, true, nil
    loop.spawn(function()
      local server = metrics.serve(address or dir .. "/m.sock", entries)
      ok, why = xpcall(fn, debug.traceback, server)
      server:stop()
      loop.stop "done"
    end)
    loop.after(30, function() loop.stop "late" end)
    local reason = loop.run()
    if not ok then error(why, 0) end
    assert.equal("done", reason)
    assert.equal(errors, loop.errors)
  end

  local ONE = { { name = "x", type = "counter", read = function() return 5 end } }

  -- One reply: its status, headers, body. head: no body follows.
  local function reply(s, head)
    local r = { headers = {} }
    local first = s:read "line"
    if not first then return nil end
    r.status = tonumber(first:match "^HTTP/1%.1 (%d%d%d) [%u%l ]+\r$") or error(first)
    for line in s:lines() do
      if line == "\r" then break end
      local name, value = line:match "^([%w-]+): (.*)\r$"
      r.headers[name:lower()] = value
    end
    local length = tonumber(r.headers["content-length"])
    r.body = not head and length > 0 and s:read(length) or ""
    return r
  end

  local function request(s, text, head)
    s:write((text:gsub("\n", "\r\n")))
    return reply(s, head)
  end

  local function ask(address, text, head)
    local s <close> = loop.connect(address)
    return request(s, text, head)
  end

  local GET = "GET /metrics HTTP/1.1\nHost: x\n\n"

  -- Until the server has begun to read a request of as many connections.
  local function until_busy(server, n)
    support.until_true(function()
      loop.sleep(0.005)
      local busy = 0
      for client in pairs(server.clients) do busy = busy + (client.idle_since and 0 or 1) end
      return busy == n
    end)
  end

  -- Until the peer has closed it.
  local function ended(s)
    local ok, data = pcall(s.read, s, "all")
    return not ok and data.code or data
  end

  for kind, address in pairs { ["a socket file"] = false, ["127.0.0.1"] = "127.0.0.1:0",
    ["::1"] = "[::1]:0", localhost = "localhost:0" } do
    it("are there on " .. kind, function()
      serve(ONE, function(server)
        local r = ask(server.address, GET)
        assert.equal(200, r.status)
        assert.equal("text/plain; version=0.0.4; charset=utf-8", r.headers["content-type"])
        assert.equal("Accept", r.headers.vary)
        assert.equal("no-store", r.headers["cache-control"])
        assert.matches("^%a%a%a, %d%d %a%a%a %d%d%d%d %d%d:%d%d:%d%d GMT$", r.headers.date)
        assert.equal("5", exposition.value(exposition.prometheus(r.body), "x_total"))
      end, address or nil)
    end)
  end

  it("are in the format that the client likes best", function()
    serve(ONE, function(server)
      for accept, open in pairs {
        [""] = false, ["*/*"] = false, ["text/plain"] = false, ["text/*"] = false,
        [PROMETHEUS] = true, ["application/openmetrics-text"] = true,
        ["application/openmetrics-text; version=1.0.0; charset=utf-8"] = true,
        ["Application/OpenMetrics-Text;version=\"1.0.0\""] = true,
        ["application/openmetrics-text;version=0.0.1"] = false,
        ["application/openmetrics-text;q=0"] = false,
        ["application/openmetrics-text;q=0.2,text/plain;q=0.3"] = false,
        ["application/openmetrics-text;q=0.2,*/*;q=0.1"] = true,
        ["text/plain;version=0.0.4;q=0.3,application/openmetrics-text;version=1.0.0;q=0.3"] = true,
        ["application/vnd.google.protobuf;q=0.9,text/plain;q=0.1"] = false,
        [",;;q=,,="] = false,
      } do
        local r = ask(server.address, ("GET /metrics HTTP/1.1\nHost: x\nAccept: %s\n\n")
          :format(accept))
        assert.equal(200, r.status)
        local families = exposition[open and "openmetrics" or "prometheus"](r.body)
        assert.equal("5", exposition.value(families, "x_total"))
        assert.equal(open and "application/openmetrics-text; version=1.0.0; charset=utf-8"
          or "text/plain; version=0.0.4; charset=utf-8", r.headers["content-type"], accept)
      end
    end)
  end)

  it("come again on a connection that is kept, also asked for in advance", function()
    serve(ONE, function(server)
      local s <close> = loop.connect(server.address)
      for _ = 1, 3 do assert.equal(200, request(s, GET).status) end
      s:write((GET .. GET .. "HEAD /metrics HTTP/1.1\nHost: x\nConnection: close\n\n")
        :gsub("\n", "\r\n"))
      local first = reply(s)
      assert.equal("keep-alive", first.headers.connection)
      assert.equal(200, reply(s).status)
      local head = reply(s, true)
      assert.equal("close", head.headers.connection)
      assert.is_true(tonumber(head.headers["content-length"]) > 100)
      assert.equal("", s:read "all")
    end)
  end)

  it("are asked for in pieces, with bare line feeds, absolutely, or by HTTP/1.0", function()
    serve(ONE, function(server)
      local s <close> = loop.connect(server.address)
      for byte in GET:gmatch "." do s:write(byte) end
      assert.equal(200, reply(s).status)
      assert.equal(200, request(s, "GET http://x:1/metrics?a=b HTTP/1.1\nhost: x\n\n").status)
      local r = ask(server.address, "GET /metrics HTTP/1.0\n\n")
      assert.same({ 200, "close" }, { r.status, r.headers.connection })
      r = ask(server.address, "GET /metrics HTTP/1.0\nConnection: keep-alive\n\n")
      assert.same({ 200, "keep-alive" }, { r.status, r.headers.connection })
    end)
  end)

  it("are all that there is, for GET and HEAD", function()
    serve(ONE, function(server)
      for text, status in pairs {
        ["GET / HTTP/1.1\nHost: x\n\n"] = 404,
        ["GET /metrics/ HTTP/1.1\nHost: x\n\n"] = 404,
        ["GET /../metrics HTTP/1.1\nHost: x\n\n"] = 404,
        ["DELETE /metrics HTTP/1.1\nHost: x\n\n"] = 405,
        ["POST /metrics HTTP/1.1\nHost: x\nContent-Length: 3\n\nabc"] = 405,
        ["GET /metrics HTTP/1.1\n\n"] = 400,
        ["GET /metrics\n\n"] = 400,
        ["get /metrics HTTP/1.1\nHost: x\n\n"] = 400,
        ["GET /metrics HTTP/1.1\nHost: x\nno header\n\n"] = 400,
        ["GET /metrics HTTP/1.1\nHost : x\n\n"] = 400,
        ["\0\1\2\n\n"] = 400,
        ["GET /metrics HTTP/2.0\nHost: x\n\n"] = 505,
        ["PRI * HTTP/2.0\n\nSM\n\n"] = 505,
        ["GET /metrics HTTP/1.1\nHost: x\nA: " .. ("a"):rep(9000) .. "\n\n"] = 431,
        [("a"):rep(20000)] = 431,
      } do
        local s <close> = loop.connect(server.address)
        local r = request(s, text)
        assert.equal(status, r.status, text:sub(1, 60))
        assert.equal(status == 405 and "GET, HEAD" or nil, r.headers.allow)
        assert.matches("^%d%d%d [%u%l ]+\n$", r.body)
      end
      assert.equal(200, ask(server.address, GET).status)
    end)
  end)

  it("are not kept from others by clients that hang", function()
    http.HEADER_SECONDS, http.IDLE_SECONDS = 0.1, 0.2
    serve(ONE, function(server)
      local half <close> = loop.connect(server.address)
      local idle <close> = loop.connect(server.address)
      half:write "GET /metrics HT"
      assert.equal(200, request(idle, GET).status)
      assert.equal("", ended(half))
      assert.equal("", ended(idle))
      while server.count > 0 do loop.sleep(0.005) end -- the client may learn it before the server
    end)
  end)

  it("have room for some connections, and take it from who idles longest", function()
    http.MAX_CLIENTS = 3
    serve(ONE, function(server)
      local list = {}
      for i = 1, 5 do
        list[i] = loop.connect(server.address)
        assert.equal(200, request(list[i], GET).status)
        assert.is_true(server.count <= 3)
      end
      assert.same({ "", "" }, { ended(list[1]), ended(list[2]) })
      for i = 3, 5 do assert.equal(200, request(list[i], GET).status) end
      -- all are busy: with half a request each
      for i = 3, 5 do list[i]:write "GET" end
      until_busy(server, 3)
      local r = ask(server.address, GET)
      assert.equal(503, r.status)
      for i = 3, 5 do
        list[i]:write((GET:sub(4):gsub("\n", "\r\n")))
        assert.equal(200, reply(list[i]).status)
      end
    end)
  end)

  -- Some megabytes of text, in few pieces; where memory is slow, still more than a socket takes.
  local WIDTH, LARGE = 4000, 3 << 20
  if support.slow then WIDTH, LARGE = 800, 600 << 10 end
  local function many()
    local list = {}
    for i = 1, 900 do list[i] = { i, name = ("x"):rep(WIDTH) .. i } end
    return { { name = "x", type = "gauge", read = function() return list end } }
  end

  it("may be large, and go at the client's pace", function()
    serve(many(), function(server)
      local s <close> = loop.connect(server.address)
      s:write((GET:gsub("\n", "\r\n")))
      loop.sleep(0.05)
      -- others are answered meanwhile, and no more is in the server's hands than one piece
      local other = ask(server.address, GET)
      assert.equal(200, other.status)
      local r = reply(s)
      assert.is_true(#r.body > LARGE)
      assert.equal(900, #exposition.prometheus(r.body).x.samples)
    end)
  end)

  it("that cannot be had are an error of ours: told, and answered", function()
    local bug = bpf.error { code = "EMFILE", op = "read", subject = "x", cause = "an error object" }
    for want, raise in pairs { ["a bug"] = function() error "a bug" end,
      ["an error object"] = function() error(bug, 0) end } do
      local told
      local before_sink = loop.on_error(function(text) told = text end)
      loop.spawn(function()
        local server = http.serve("/metrics", function(fn)
          return loop.listen("127.0.0.1:0", fn)
        end, raise)
        local r = ask(server.address, GET)
        assert.equal(500, r.status)
        server:stop()
        loop.stop()
      end)
      loop.run()
      loop.on_error(before_sink)
      assert.matches(want, told)
    end
  end)

  it("are over for who takes nothing, or goes in the middle", function()
    http.STALL_SECONDS = 0.1
    serve(many(), function(server)
      local gone = loop.connect(server.address)
      gone:write((GET:gsub("\n", "\r\n")))
      assert.equal(1000, #gone:read(1000))
      gone:close()
      local stalls <close> = loop.connect(server.address)
      stalls:write((GET:gsub("\n", "\r\n")))
      support.until_true(function()
        loop.sleep(0.01)
        return server.count == 0
      end)
      assert.is_true(#ended(stalls) < LARGE)
      assert.equal(200, ask(server.address, GET).status)
    end)
  end)

  it("end with their server, after the reply at hand", function()
    serve(ONE, function(server)
      local busy <close> = loop.connect(server.address)
      local idle <close> = loop.connect(server.address)
      assert.equal(200, request(idle, GET).status)
      busy:write "GET"
      until_busy(server, 1)
      server:stop()
      assert.equal("", ended(idle))
      local r = request(busy, GET:sub(4))
      assert.same({ 200, "close" }, { r.status, r.headers.connection })
      assert.is_false((pcall(loop.connect, server.address)))
      assert.is_nil(lfs.attributes(server.address))
    end)
  end)

  it("are at most one scrape's work at a time for others", function()
    local running, most = 0, 0
    local entries = {}
    for i = 1, 5 do
      entries[i] = { name = "x" .. i, type = "gauge", read = function()
        running = running + 1
        most = math.max(most, running)
        loop.sleep(0.005)
        running = running - 1
        return i
      end }
    end
    serve(entries, function(server)
      local done = 0
      for _ = 1, 6 do
        loop.spawn(function()
          assert.equal(200, ask(server.address, GET).status)
          done = done + 1
        end)
      end
      support.until_true(function()
        loop.sleep(0.005)
        return done == 6
      end)
      assert.equal(1, most)
    end)
  end)

  describe("need an address that", function()
    local function refusal(address)
      return tostring(support.refusal(metrics.serve, address, ONE))
    end

    it("is of this machine only", function()
      for _, address in ipairs { "0.0.0.0:80", ":80", "10.0.0.1:80", "[::]:80", "[fe80::1]:80",
        "[::ffff:10.0.0.1]:80", "example.org:80", "127.0.0.1.example.org:80", "1270.0.0.1:80" } do
        assert.matches("metrics are for this machine only: '.*' is not its loopback %(EINVAL%)\n"
          .. "hint: 127%.0%.0%.1 or ::1", refusal(address))
      end
      for _, address in ipairs { "80", "127.0.0.1", "127.0.0.1:70000", "", "[::1]" } do
        assert.matches("it is no address", refusal(address))
      end
    end)

    it("is nobody else's", function()
      local path = dir .. "/taken"
      local _ <close> = assert(io.open(path, "w"))
      assert.matches("EADDRINUSE%)\nhint: another process listens there, or it is no socket",
        refusal(path))
      assert.equal("file", lfs.attributes(path, "mode"))
      os.remove(path)
      assert.matches("ENAMETOOLONG", refusal("/tmp/" .. ("x"):rep(200)))
      assert.matches("ENOENT", refusal "/tmp/no/such/directory")
      serve(ONE, function(server)
        assert.matches("EADDRINUSE", refusal(server.address))
        assert.equal(200, ask(server.address, GET).status)
      end)
      serve(ONE, function(server) assert.matches("EADDRINUSE", refusal(server.address)) end,
        "127.0.0.1:0")
    end)

    it("may have been somebody's who is gone", function()
      local path = dir .. "/stale.sock"
      local pipe = uv.new_pipe(false)
      assert(pipe:bind(path))
      -- libuv takes the file away with the socket
      assert(os.rename(path, path .. "x"))
      pipe:close()
      uv.run "nowait"
      assert(os.rename(path .. "x", path))
      assert.equal("socket", lfs.attributes(path, "mode"))
      serve(ONE, function(server)
        assert.equal("rw-rw----", lfs.attributes(path, "permissions"))
        assert.equal(200, ask(server.address, GET).status)
      end, path)
      assert.is_nil(lfs.attributes(path))
    end)

    it("is left alone when it is another's by the end", function()
      local path = dir .. "/other.sock"
      serve(ONE, function()
        os.remove(path)
        local _ <close> = assert(io.open(path, "w"))
      end, path)
      assert.equal("file", lfs.attributes(path, "mode"))
      os.remove(path)
    end)
  end)
end)
