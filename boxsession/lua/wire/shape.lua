-- Decides for all writers how a table is shown: by its __serialize, and as a list or a map.
-- Needs: wire/yaml
local internal = ...
local raw, NULL = internal.raw, internal.NULL
local error, next, rawget, type = raw.error, raw.next, raw.rawget, raw.type
local getmetatable = raw.debug_getmetatable     -- whatever __metatable says
local list_length = internal.yaml.list_length

local shape = {}
internal.shape = shape

-- A table with more than SPARSE_RATIO places for each item is shown as a map.
local SPARSE_RATIO = 2

-- Applies __serialize: returns the value to show instead, the forced kind, and whether in flow style.
local function resolve(value)
    for _ = 1, 100 do
        if type(value) ~= 'table' then
            return value
        end
        local meta = getmetatable(value)
        local serialize
        if type(meta) == 'table' then
            serialize = rawget(meta, '__serialize')
        end
        if serialize == nil then
            return value
        end
        if type(serialize) == 'function' then
            local shown = serialize(value)
            if shown == value then
                return value
            end
            value = shown
            if value == nil then
                return NULL
            end
        elseif serialize == 'map' or serialize == 'mapping' then
            return value, 'map', serialize == 'map'
        elseif serialize == 'seq' or serialize == 'sequence' or serialize == 'array' then
            return value, 'list', serialize == 'seq'
        else
            return error('invalid __serialize value', 0)
        end
    end
    return error('invalid __serialize value: it never ends', 0)
end

shape.resolve = resolve

-- Maps that the server itself answers with are shown in the order of their keys in Python. Such a map has a metatable that
-- it shares with the other maps of the same keys, and that users cannot reach.
local with_order, order_of = raw.setmetatable({}, {__mode = 'v'}), raw.setmetatable({}, {__mode = 'k'})

-- The metatable for a list of keys.
function shape.in_order(keys)
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
function shape.items(map)
    local meta = getmetatable(map)
    local order = meta and order_of[meta]
    if order then
        return iterator(map, order.keys, order.known)
    end
    return next, map
end

-- resolve() for tables and objects.
function shape.resolve_object(value)
    if type(value) == 'userdata' then
        local meta = getmetatable(value)
        local serialize = meta and rawget(meta, '__serialize')
        if serialize then
            local _, shown = internal.task.protected(serialize, value)
            value = shown
        end
    end
    return resolve(value)
end

-- The length of a table that __serialize forces to be a list: its highest index, or #value if that index is far above the
-- number of items.
local FORCED_SPARSE_MAX = 1000
local function highest_index(value)
    local size, max = 0, 0
    for key in next, value do
        size = size + 1
        if type(key) == 'number' and key > max and key % 1 == 0 then
            max = key
        end
    end
    return max <= FORCED_SPARSE_MAX + size * SPARSE_RATIO and max or #value
end

shape.highest_index = highest_index

-- The length of a table by a serializer's settings, or nil for a map. `forced`: __serialize forces a list.
local HUGE_LIST = 2^20
local function list_length_by(settings, value, forced)
    local ratio = settings.encode_sparse_ratio
    local safe = settings.encode_sparse_safe
    if ratio == 0 then
        safe = HUGE_LIST
    end
    -- list_length() never finds a list of up to SPARSE_SAFE items too sparse, so a smaller `safe` has no effect.
    local length, too_sparse = list_length(value, safe, ratio)
    if too_sparse and not settings.encode_sparse_convert then
        return error('excessively sparse array', 0)
    end
    if forced and length == nil then
        return highest_index(value)
    end
    return length
end
shape.list_length = list_length_by
