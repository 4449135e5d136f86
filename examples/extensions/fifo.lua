-- SPDX-License-Identifier: MIT
-- First in, first out: the page that came first goes first.
return {
	reclaim = function(pages)
		return pages:oldest()
	end,
}
