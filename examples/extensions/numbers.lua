-- SPDX-License-Identifier: MIT
-- A memory object that is computed, not stored: what a program finds in a page that it has not
-- touched yet is that page's number, in every byte.  The first page of the space is page 0.
local first = nil

return {
	fault = function(address)
		first = first or address
		return string.char((address - first) // 4096 % 256):rep(4096)
	end,
}
