-- SPDX-License-Identifier: MIT
-- The page that came last goes first.  For a program that goes through more memory than there is,
-- over and over: what it touched longest ago is what it needs next, and must stay.
return {
	reclaim = function(pages)
		return pages:newest()
	end,
}
