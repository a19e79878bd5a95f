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
