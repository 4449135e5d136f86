-- SPDX-License-Identifier: MIT
-- A memory object with frames of its own, over SPIN's memory services: a range of eight pages in
-- each space, at most four of which have a frame at a time.  What was written to a page is kept when
-- its frame goes, whoever wants it: the object, for another page, or the kernel.
local PAGES, FRAMES = 8, 4
local objects = {}   -- by the space's id
local owners = {}    -- of each frame, by its id: the object, and the page

local function keep(frame)
	local owner = owners[frame.id]
	if not owner then return end
	owner.object.bytes[owner.page] = PhysAddr.Read(frame, 0, 4096)
	owner.object.frames[owner.page] = nil
	owners[frame.id] = nil
end

local function make_room(object)
	local oldest = table.remove(object.order)
	local frame = object.frames[oldest]
	if not frame then return end
	PhysAddr.ChangeState(frame, "reclaimed")   -- from now on nobody writes to it
	keep(frame)
	PhysAddr.Deallocate(frame)
end

local function remember(object, page)
	local order = { page }
	for _, other in ipairs(object.order) do
		if other ~= page then table.insert(order, other) end
	end
	object.order = order
end

return {
	begin = function(space)
		local range = VirtAddr.Allocate(space, PAGES)
		if not range then return end
		objects[space.id] = { range = range, first = VirtAddr.Address(range),
			bytes = {}, frames = {}, order = {} }
	end,

	fault = function(address, write, space)
		local object = space and objects[space.id]
		if not object then return nil end
		local page = (address - object.first) // 4096
		if page < 0 or page >= PAGES then return nil end
		if Translation.ExamineMapping(space, address) then return true end   -- another CPU was first
		if #object.order >= FRAMES then make_room(object) end
		local frame = PhysAddr.Allocate()
		if not frame then return false end
		PhysAddr.Write(frame, 0, object.bytes[page] or "")
		if not Translation.AddMapping(space, frame, object.range, page, "rw") then
			PhysAddr.Deallocate(frame)
			return false
		end
		object.frames[page] = frame
		owners[frame.id] = { object = object, page = page }
		remember(object, page)
		return true
	end,

	transient = function(frame)
		keep(frame)
	end,
}
