-- SPDX-License-Identifier: BSD-2-Clause
local loop = require "moonbee.loop"
local uv = require "luv"

-- What a reader is to the loop: fd, name, closed, drain. Its records lie in r.queue, and for each
-- one a byte in a pipe, so that fd is readable as long as there are any (level-triggered).
local function new_reader()
  local pipe = uv.pipe()
  local r = { fd = pipe.read, name = "fake", closed = false, queue = {}, consumed = 0, drains = 0 }

  function r:push(...)
    for _, record in ipairs { ... } do
      self.queue[#self.queue + 1] = record
      uv.fs_write(pipe.write, "x")
    end
  end

  function r:close()
    if self.closed then return end
    self.closed = true
    uv.fs_close(pipe.read)
    uv.fs_close(pipe.write)
  end

  function r:drain(limit, ...)
    assert.equal(1024, limit.max)
    self.drains, self.columns = self.drains + 1, { ... }
    local left, held = math.min(limit.max, #self.queue), false
    local function consume()
      if not held or self.closed then return end
      held = false
      table.remove(self.queue, 1)
      uv.fs_read(pipe.read, 1)
      self.consumed = self.consumed + 1
    end
    local function next_record()
      if self.closed then error "attempt to use a closed reader" end
      consume()
      if left == 0 then return nil end
      left, held = left - 1, true
      local record = self.queue[1]
      if type(record) == "table" then return table.unpack(record) end
      return record
    end
    return next_record, nil, nil, setmetatable({}, { __close = consume })
  end

  return setmetatable(r, { __close = r.close })
end

-- Collect what is reported instead of printing it.
local function catch_errors()
  local seen = {}
  loop.on_error(function(text, err, handle) seen[#seen + 1] = { text, err, handle } end)
  return seen
end

local function closing(fn)
  return setmetatable({}, { __close = fn })
end

local function now()
  return uv.hrtime() / 1e9
end

-- fn raises a string that has this plain text in it, with this file's line.
local function raises(text, fn)
  local ok, err = pcall(fn)
  assert.is_false(ok)
  assert.is_string(err)
  assert.truthy(err:find(text, 1, true), err)
  assert.truthy(err:find "loop_spec%.lua:%d+: ", err)
end

describe("loop", function()
  after_each(function()
    loop.on_error(nil)
    loop.stop()
    loop.run() -- drops what a failed test has left
  end)

  describe("on", function()
    it("gives the records to the handler in order", function()
      local r <close>, seen = new_reader(), {}
      loop.on(r, function(record)
        seen[#seen + 1] = record
        if record == "c" then loop.stop() end
      end)
      r:push("a", "b", "c")
      loop.run()
      assert.same({ "a", "b", "c" }, seen)
      assert.equal(3, r.consumed)
    end)

    it("passes on the columns, and gives their values", function()
      local r <close>, seen = new_reader(), nil
      loop.on(r, function(...)
        seen = table.pack(...)
        loop.stop()
      end, "pid", "len", "comm")
      r:push { 7, 8, "x" }
      loop.run()
      assert.same({ "pid", "len", "comm" }, r.columns)
      assert.same({ n = 3, 7, 8, "x" }, seen)
    end)

    it("puts no C function under a handler", function()
      local r <close>, frames = new_reader(), {}
      loop.on(r, function()
        local level = 1
        while debug.getinfo(level, "S") do
          frames[level] = debug.getinfo(level, "S").what
          level = level + 1
        end
        loop.stop()
      end)
      r:push "a"
      loop.run()
      assert.same({ "Lua", "Lua", "Lua" }, frames) -- the handler, the drain, the coroutine
    end)

    it("goes on with the next record after an error, which is reported and counted", function()
      local errors, r <close>, seen = catch_errors(), new_reader(), {}
      local before = loop.errors
      local handle = loop.on(r, function(record)
        if record == "bad" then error "boom" end
        seen[#seen + 1] = record
        if record == "end" then loop.stop() end
      end)
      r:push("a", "bad", "b", "bad", "end")
      loop.run()
      assert.same({ "a", "b", "end" }, seen)
      assert.equal(5, r.consumed)
      assert.equal(2, handle.errors)
      assert.equal(before + 2, loop.errors)
      assert.equal(2, #errors)
      assert.truthy(errors[1][1]:find "handler of reader 'fake': .*loop_spec%.lua:%d+: boom")
      assert.truthy(errors[1][1]:find "\nstack traceback:\n\t.*loop_spec%.lua:%d+: in ")
      assert.truthy(errors[1][1]:find "\nstarted at:\n\t.*loop_spec%.lua:%d+: in ")
      assert.falsy(errors[1][1]:find "moonbee/loop%.lua")
      assert.equal(handle, errors[1][3])
    end)

    it("keeps the record of a handler that waits, and pauses its reader", function()
      local r <close>, order = new_reader(), {}
      loop.on(r, function(record)
        order[#order + 1] = record
        if record == "slow" then
          loop.sleep(0.05)
          order[#order + 1] = "slept"
        elseif record == "last" then
          loop.stop()
        end
      end)
      r:push("slow", "next")
      loop.after(0.08, function() r:push "last" end)
      loop.after(0.03, function()
        assert.equal(0, r.consumed)
        assert.equal(1, r.drains) -- nobody asks again and again meanwhile
        order[#order + 1] = "timer"
      end)
      loop.run()
      assert.same({ "slow", "timer", "slept", "next", "last" }, order)
    end)

    it("lets others have their turn while records never end", function()
      local r <close>, n = new_reader(), 0
      loop.on(r, function()
        n = n + 1
        r:push "more"
      end)
      loop.spawn(function() loop.stop "timer" end)
      r:push "first"
      assert.equal("timer", loop.run())
      assert.truthy(n <= 2 * 1024, n)
    end)

    it("gives no more records after loop.stop or the handle's stop", function()
      for _, how in ipairs { "loop", "handle" } do
        local r <close>, n, handle = new_reader(), 0, nil
        handle = loop.on(r, function()
          n = n + 1
          if how == "loop" then loop.stop() else handle:stop() end
        end)
        r:push("a", "b", "c")
        loop.run()
        assert.equal(1, n)
        assert.same({ "b", "c" }, r.queue)
      end
    end)

    it("ends quietly when the reader is closed, in its handler or elsewhere", function()
      local errors = catch_errors()
      local r <close> = new_reader()
      local handle = loop.on(r, function() r:close() end)
      r:push("a", "b")
      loop.run()
      assert.is_true(handle.stopped)

      local other <close> = new_reader()
      handle = loop.on(other, function() end)
      loop.spawn(function() other:close() end)
      loop.run()
      assert.is_true(handle.stopped)
      assert.same({}, errors)
    end)

    it("frees a closed reader's fd for the next one at once", function()
      local first <close>, seen = new_reader(), nil
      loop.on(first, function() end)
      first:close()
      local second <close> = new_reader()
      assert.equal(first.fd, second.fd)
      loop.on(second, function(record)
        seen = record
        loop.stop()
      end)
      second:push "a"
      loop.run()
      assert.equal("a", seen)
    end)

    it("stops a handle whose drain fails before the first record", function()
      local errors, r <close> = catch_errors(), new_reader()
      r.drain = function() error "no column 'x'" end
      local handle = loop.on(r, function() end, "x")
      r:push "a"
      loop.run()
      assert.is_true(handle.stopped)
      assert.equal(1, #errors)
    end)

    it("refuses what is no reader, no function, a closed reader, one that has a handler", function()
      local r <close> = new_reader()
      raises("reader expected, got string", function() loop.on("x", print) end)
      raises("function expected, got nil", function() loop.on(r) end)
      loop.on(r, print)
      local ok, err = pcall(loop.on, r, print)
      assert.is_false(ok)
      assert.equal("EEXIST", err.code)
      assert.truthy(tostring(err):find "hint: ")
      r:close()
      raises("closed reader", function() loop.on(r, print) end)
    end)
  end)

  describe("timers", function()
    it("after runs once, and not too early", function()
      local n, start = 0, now()
      loop.after(0.02, function() n = n + 1 end)
      loop.run()
      assert.equal(1, n)
      assert.truthy(now() - start >= 0.02)
    end)

    it("every does not drift, whatever a tick costs", function()
      local function five_ticks()
        local n, start, handle = 0, now(), nil
        handle = loop.every(0.1, function()
          n = n + 1
          if n == 5 then return handle:stop() end
          uv.sleep(40)
        end)
        loop.run()
        return now() - start
      end
      -- A busy machine may delay the last tick; one that drifts comes after 0.66 s at least.
      local took
      for _ = 1, 5 do
        took = five_ticks()
        assert.truthy(took >= 0.5, took)
        if took < 0.62 then return end
      end
      error(("the fifth tick came after %.3f s"):format(took))
    end)

    it("every starts no tick while the one before waits", function()
      local active, most, n, handle = 0, 0, 0, nil
      handle = loop.every(0.005, function()
        active, n = active + 1, n + 1
        most = math.max(most, active)
        loop.sleep(0.02)
        active = active - 1
        if n == 3 then handle:stop() end
      end)
      loop.run()
      assert.equal(1, most)
      assert.equal(3, n)
    end)

    it("every goes on after an error", function()
      local errors, n, handle = catch_errors(), 0, nil
      handle = loop.every(0.001, function()
        n = n + 1
        if n == 3 then handle:stop() end
        error "boom"
      end)
      loop.run()
      assert.equal(3, #errors)
    end)

    it("refuse durations that are none, with the caller's line", function()
      raises("loop.after: seconds expected", function() loop.after(-1, print) end)
      raises("nan", function() loop.after(0 / 0, print) end)
      raises("got inf", function() loop.every(math.huge, print) end)
      raises("from 0.001", function() loop.every(0, print) end)
      raises("got 1", function() loop.after("1", print) end)
      raises("function expected, got nil", function() loop.every(1) end)
      raises("function expected, got nil", function() loop.spawn() end)
    end)
  end)

  describe("waiting", function()
    it("sleep waits in spawned functions, side by side, and not too short", function()
      local order, start = {}, now()
      loop.spawn(function(a, b, c)
        loop.sleep(0.03)
        order[#order + 1] = a + c
        assert.is_nil(b)
        assert.truthy(now() - start >= 0.03)
      end, 1, nil, 2)
      loop.spawn(function()
        loop.sleep(0.01)
        order[#order + 1] = "first"
      end)
      loop.run()
      assert.same({ "first", 3 }, order)
    end)

    it("sleep works under pcall, in iterators and metamethods", function()
      local errors, seen = catch_errors(), {}
      local slow = setmetatable({}, { __index = function(_, k)
        loop.sleep(0)
        return k
      end })
      loop.spawn(function()
        pcall(function()
          loop.sleep(0)
          seen[1] = slow.x
          error "seen"
        end)
        for i in function(_, i) loop.sleep(0) return not i and 1 or nil end do seen[2] = i end
      end)
      loop.run()
      assert.same({ "x", 1 }, seen)
      assert.same({}, errors)
    end)

    it("sleep raises outside of the loop's functions, and says what to do", function()
      raises("hint: loop.sleep waits in functions that the loop runs", function() loop.sleep(1) end)
      local inner
      loop.spawn(function()
        inner = select(2, pcall(coroutine.wrap(function() loop.sleep(1) end)))
      end)
      loop.run()
      assert.truthy(inner:find "hint: ")
    end)

    it("sleep raises where a C function cannot wait", function()
      local err
      loop.spawn(function()
        err = select(2, pcall(string.gsub, "a", "a", function() loop.sleep(0) end))
      end)
      loop.run()
      assert.truthy(err:find "cannot wait", err)
    end)

    it("await returns what wake is given: at once, by luv, by another handler", function()
      local seen = {}
      loop.spawn(function()
        seen[1] = table.pack(loop.await(function(wake) wake(1, nil, 3) end))
        seen[2] = loop.await(function(wake) uv.fs_stat("/", function(_, s) wake(s.type) end) end)
        seen[3] = loop.await(function(wake) loop.spawn(function() wake "hand" wake "twice" end) end)
      end)
      loop.run()
      assert.same({ { n = 3, 1, nil, 3 }, "directory", "hand" }, seen)
    end)

    it("a bare yield ends the handler with an error that says what to use", function()
      local errors, closed = catch_errors(), false
      loop.spawn(function()
        local _ <close> = closing(function() closed = true end)
        coroutine.yield(1)
      end)
      loop.run()
      assert.truthy(errors[1][1]:find "hint: wait with loop%.sleep")
      assert.is_true(closed)
    end)
  end)

  describe("stop of a handle", function()
    it("ends a handler where it waits, and closes what it holds", function()
      local closed, went_on = false, false
      local handle = loop.spawn(function()
        local _ <close> = closing(function() closed = true end)
        loop.sleep(60)
        went_on = true
      end)
      loop.after(0.01, function() handle:stop() end)
      loop.run()
      assert.is_true(closed)
      assert.is_false(went_on)
    end)

    it("lets a handler that stops itself go on to its end", function()
      local done, handle = false, nil
      handle = loop.every(0.001, function()
        handle:stop()
        loop.sleep(0.01)
        done = true
      end)
      loop.run()
      assert.is_true(done)
    end)

    it("may come before the run, and twice", function()
      local n = 0
      local handle = loop.after(0, function() n = n + 1 end)
      handle:stop()
      handle:stop()
      loop.run()
      assert.equal(0, n)
      assert.equal("moonbee.handle (the handler of loop.after, stopped)", tostring(handle))
    end)
  end)

  describe("signal", function()
    it("calls the handler with the signal's name, in turn while it waits", function()
      local seen, active = {}, 0
      loop.signal("SIGHUP", function(name)
        active = active + 1
        assert.equal(1, active)
        seen[#seen + 1] = name
        if #seen == 1 then
          uv.kill(uv.os_getpid(), "sighup")
          loop.sleep(0.02)
        else
          loop.stop()
        end
        active = active - 1
      end)
      uv.kill(uv.os_getpid(), "sighup")
      loop.run()
      assert.same({ "SIGHUP", "SIGHUP" }, seen)
    end)

    it("SIGINT and SIGTERM end the run, which tells which one", function()
      for _, name in ipairs { "SIGINT", "SIGTERM" } do
        loop.every(60, function() end)
        loop.spawn(function() uv.kill(uv.os_getpid(), name:lower()) end)
        assert.equal(name, loop.run())
      end
    end)

    it("a handler of SIGTERM takes the place of the end", function()
      local seen
      loop.signal("SIGTERM", function(name)
        seen = name
        loop.stop "by me"
      end)
      loop.every(60, function() end)
      loop.spawn(function() uv.kill(uv.os_getpid(), "sigterm") end)
      assert.equal("by me", loop.run())
      assert.equal("SIGTERM", seen)
    end)

    it("refuses names that are none, and what cannot be handled", function()
      raises('no signal "HUP"', function() loop.signal("HUP", print) end)
      raises('no signal "1"', function() loop.signal(1, print) end)
      local ok, err = pcall(loop.signal, "SIGKILL", print)
      assert.is_false(ok)
      assert.truthy(tostring(err):find "SIGKILL")
    end)
  end)

  describe("run", function()
    it("returns when nothing is left to do", function()
      assert.is_nil(loop.run())
      local n = 0
      loop.spawn(function() loop.spawn(function() n = n + 1 end) end)
      assert.is_nil(loop.run())
      assert.equal(1, n)
    end)

    it("returns the reason that stop was given", function()
      loop.every(60, function() end)
      loop.spawn(function() loop.stop("why") loop.stop("later") end)
      assert.equal("why", loop.run())
    end)

    it("returns at once when it was stopped before", function()
      local n = 0
      loop.spawn(function() n = n + 1 end)
      loop.stop "early"
      assert.equal("early", loop.run())
      assert.is_nil(loop.run())
      assert.equal(0, n)
    end)

    it("closes the coroutines that still wait, and drops all handles", function()
      local r <close>, closed = new_reader(), 0
      loop.on(r, function()
        local _ <close> = closing(function() closed = closed + 1 end)
        loop.sleep(60)
      end)
      r:push("a", "b")
      local every = loop.every(0.01, function() loop.stop() end)
      loop.run()
      assert.equal(1, closed)
      assert.equal(1, r.consumed) -- its turn has ended
      assert.is_true(every.stopped)
      assert.is_nil(loop.run())
    end)

    it("raises inside of a handler: one loop at a time", function()
      local err
      loop.spawn(function() err = select(2, pcall(loop.run)) end)
      loop.run()
      assert.truthy(err:find "the loop runs already")
    end)

    it("takes nothing new while it closes handlers", function()
      local errors = catch_errors()
      loop.spawn(function()
        local _ <close> = closing(function() loop.after(0, print) end)
        loop.sleep(60)
      end)
      loop.spawn(function() loop.stop() end)
      loop.run()
      assert.truthy(errors[1][1]:find "the loop is ending")
    end)
  end)

  describe("on_error", function()
    it("gives back the function before, and nil sets stderr again", function()
      local function mine() end
      assert.is_nil(loop.on_error(mine))
      assert.equal(mine, loop.on_error(nil))
      raises("function or nil expected", function() loop.on_error(1) end)
    end)

    it("hands over the error itself, also one that is no text", function()
      local errors, what = catch_errors(), {}
      loop.spawn(function() error(what) end)
      loop.spawn(function() error(nil) end)
      loop.run()
      assert.equal(what, errors[1][2])
      assert.is_nil(errors[2][2])
    end)
  end)
end)
