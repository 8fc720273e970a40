-- SPDX-License-Identifier: BSD-2-Clause
local persist = {}
function persist.keep() end
function persist.adopt() end
function persist.forget() end
return persist
