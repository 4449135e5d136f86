-- SPDX-License-Identifier: MIT
-- A second chance: the oldest page that was not used since the hand passed it last.  Where nothing
-- tells what is used (vmfault run), that is the oldest.
local passed = 0 -- the stamp of the page that the hand was at

return {
	reclaim = function(pages)
		local page = pages:oldest()
		for _ = 1, 64 do
			local newer = page and page:newer()
			if not newer or (page.stamp > passed and not page:used()) then
				break
			end
			page = newer
		end
		if page then
			passed = page.stamp
		end
		return page
	end,
}
