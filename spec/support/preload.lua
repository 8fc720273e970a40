-- SPDX-License-Identifier: BSD-2-Clause
--
-- What a sanitized module wants to be loaded before it, in processes of specs, too. helper.lua
-- requires this before it takes that from the environment; nil where nothing is sanitized.

return { libraries = os.getenv "LD_PRELOAD" }
