-- SPDX-License-Identifier: BSD-2-Clause
std = "lua54"
max_line_length = 100
exclude_files = { "build" }
-- Variables that exist to be closed, and arguments that a callback's form demands.
ignore = { "211/_.*", "212/self" }
files["spec"] = { std = "+busted" }
-- Definitions for the language server: nothing in them is used or set.
files["lua/moonbee/meta"] = { ignore = { "2..", "1..", "631" } }
