-- SPDX-License-Identifier: BSD-2-Clause
-- moonbee ksym: the kernel's symbols: a name's address, an address's name, all that fit a glob.
local bpf = require "moonbee"
local kernel = require "moonbee.kernel"
local cli = require "moonbee.cli"

local ORDER = { "name", "address", "offset", "type", "module", "declaration", "percpu" }

local function hex(x) return x and ("0x%x"):format(x) end

-- As JSON has it: addresses as text, since numbers of JSON do not reach that far.
local function row(s, offset)
  return setmetatable({
    name = s.name, address = hex(s.address), offset = offset, type = s.type, module = s.module,
    declaration = s.declaration, percpu = s.percpu,
  }, { __jsonorder = ORDER })
end

-- "ffffffff81a3b2c0", "0x…", with 16 digits or a prefix: an address. "dead" may be a name.
local function address_of(word)
  local digits = word:match "^0[xX](%x+)$" or word:match "^(%x%x%x%x%x%x%x%x%x%x%x%x%x%x%x%x)$"
  if not digits then return end
  if #digits > 16 then cli.usage(("'%s' has more than 64 bits"):format(word)) end
  return tonumber("0x" .. digits)
end

local function absent(word, why, near)
  cli.fail(("find symbol '%s': %s (ENOENT)%s"):format(word, why,
    near and ("\nhint: did you mean '%s'?"):format(near) or ""))
end

local function by_address(word, address)
  local name, offset, module = kernel.symbolize(address)
  if not name then absent(word, "no symbol of the kernel's is there") end
  local s = { name = name, address = address - offset, module = module }
  -- the rest, where the name is one symbol's
  local found, more = pcall(kernel.ksym, name, module or "vmlinux")
  if found and more and more.address == s.address then s = more end
  return { row(s, offset) }
end

local function by_glob(word)
  local list, hidden = {}, false
  for s in kernel.ksyms(word) do
    list[#list + 1] = row(s)
    hidden = hidden or not s.address
  end
  if #list == 0 then absent(word, "no symbol fits") end
  if hidden then -- the error says why
    local told, err = pcall(kernel.symbolize, 1)
    if not told then io.stderr:write("moonbee: ", tostring(err), "\n") end
  end
  return list
end

local function by_name(word)
  local s, why = kernel.ksym(word)
  if not s then absent(word, why, bpf.kernel.ksym_near(word)) end
  return { row(s) }
end

local function look_up(word)
  local address = address_of(word)
  if address then return by_address(word, address) end
  return (word:find "[*?%[]" and by_glob or by_name)(word)
end

local function line(s)
  local name = s.name .. (s.offset and s.offset > 0 and ("+0x%x"):format(s.offset) or "")
  return ("%-18s %s %s%s%s%s"):format(s.address or "-", s.type or "?", name,
    s.module and (" [%s]"):format(s.module) or "", s.percpu and " (per CPU)" or "",
    s.declaration and "\n  " .. s.declaration or "")
end

local function run(opts)
  local all = setmetatable({}, { __jsontype = "array" })
  for _, word in ipairs(opts.symbol) do
    local found = look_up(word)
    table.move(found, 1, #found, #all + 1, all)
  end
  if opts.json then
    print(require "moonbee.json".encode(all, { indent = true }))
  else
    for _, s in ipairs(all) do print(line(s)) end
  end
end

return {
  name = "ksym",
  summary = "Look up symbols of the kernel: by name, by address, by glob.",
  args = { { name = "symbol", args = "+",
    help = "A name, an address (0x… or 16 hex digits), or a glob." } },
  options = { { name = "--json", args = 0, help = "Print JSON." } },
  examples = {
    "moonbee ksym tcp_v4_rcv", "moonbee ksym 0xffffffff81a3b2c0", "moonbee ksym 'tcp_v4_*'",
  },
  run = run,
}
