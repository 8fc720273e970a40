-- SPDX-License-Identifier: BSD-2-Clause
-- Plain data as text: exact, one line, refused for what is not plain.
local plain = require "moonbee.policy.plain"

describe("plain data", function()
  it("comes back exactly", function()
    for _, x in ipairs {
      true, false, 0, -1, math.mininteger, math.maxinteger, 0.1, -0.0, 1e300, math.huge, -math.huge,
      2 ^ 53, "", "a\nb\r\0\xff\\\"'", ("x"):rep(1000), {}, { 1, 2, { x = { true } } },
      { [1] = "a", [3] = "c", x = 1, [2.5] = "f", [true] = 0 },
    } do
      local text = plain.dump(x)
      assert.falsy(text:find "[\n\r]", text)
      local back = plain.parse(text)
      assert.is_true(plain.same(x, back), text)
      assert.equal(math.type(x), math.type(back))
    end
    assert.equal("nil", plain.dump(nil))
    local nan = plain.parse(plain.dump(0 / 0))
    assert.is_true(nan ~= nan)
  end)

  it("is the same text for the same data", function()
    local a, b = {}, {}
    for i = 1, 50 do a["k" .. i], b["k" .. 51 - i] = i, 51 - i end
    assert.equal(plain.dump(a), plain.dump(b))
  end)

  it("is refused for what is none", function()
    local loop = {}
    loop.x = loop
    for _, x in ipairs { print, io.stdout, coroutine.create(print), { { print } }, { [print] = 1 },
      loop } do
      assert.is_false(pcall(plain.dump, x))
    end
  end)

  it("has a depth and a size", function()
    local deep, wide = {}, { 1 }
    for _ = 1, 100 do deep = { deep } end -- as deep as what crosses states may be
    assert.is_true(plain.same(deep, plain.parse(plain.dump(deep))))
    for _ = 1, 40 do wide = { wide, wide } end
    local ok, err = pcall(plain.dump, wide)
    assert.is_false(ok)
    assert.matches("too large", err)
  end)

  it("reads no other text", function()
    for _, text in ipairs { "", "}", "os.exit()", "x", "error()", "1 2", "\27Lua" } do
      assert.is_nil(plain.parse(text), text)
    end
  end)

  it("compares", function()
    assert.is_true(plain.same({ 1, { a = 2 } }, { 1, { a = 2 } }))
    assert.is_false(plain.same({ 1 }, { 1, 2 }))
    assert.is_false(plain.same({ 1, 2 }, { 1 }))
    assert.is_false(plain.same({ a = 1 }, { a = "1" }))
    assert.is_true(plain.same(0 / 0, 0 / 0))
    assert.is_false(plain.same(0 / 0, 1))
  end)
end)
