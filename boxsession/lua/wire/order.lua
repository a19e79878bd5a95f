-- The order in which maps are shown.
-- Needs: kernel/raw
local internal = ...
local raw = internal.raw
local next, rawget = raw.next, raw.rawget
local getmetatable = raw.debug_getmetatable     -- whatever __metatable says

local order = {}
internal.order = order

-- Maps that the server itself answers with are shown in the order of their keys in Python. Such a map has a metatable that
-- it shares with the other maps of the same keys, and that users cannot reach.
local with_order, order_of = raw.setmetatable({}, {__mode = 'v'}), raw.setmetatable({}, {__mode = 'k'})

-- The metatable for a list of keys.
function order.in_order(keys)
    local name = raw.concat(keys, '\0')
    local meta = with_order[name]
    if meta == nil then
        local known = {}
        for index = 1, #keys do
            known[keys[index]] = true
        end
        meta = {__metatable = false}
        with_order[name], order_of[meta] = meta, {keys = keys, known = known}
    end
    return meta
end

-- The items of a map in order, and then those that were added to it. For a generic `for`.
local function iterator(map, keys, known)
    local index, last = 0, nil
    return function()
        while index < #keys do
            index = index + 1
            local key = keys[index]
            local value = rawget(map, key)
            if value ~= nil then
                return key, value
            end
        end
        local value
        repeat
            last, value = next(map, last)
        until last == nil or not known[last]
        return last, value
    end
end

-- As pairs(), without __pairs.
function order.items(map)
    local meta = getmetatable(map)
    local known = meta and order_of[meta]
    if known then
        return iterator(map, known.keys, known.known)
    end
    return next, map
end

-- Whether a metatable is one that only gives an order.
function order.is_only_order(meta)
    return order_of[meta] ~= nil
end
