-- The module msgpack: values as bytes. Behaviour and messages: Tarantool 2.6. msgpack.lua writes and reads them; settings
-- other than the defaults are applied to a copy of the value.
-- Needs: kernel/task, library/modules, library/msgpack, wire/serializer, wire/shape
local internal = ...
local raw, NULL, shape = internal.raw, internal.NULL, internal.shape
local error, huge, next, rawget, select, setmetatable, tonumber, tostring, type = raw.error, raw.huge, raw.next, raw.rawget,
    raw.select, raw.setmetatable, raw.tonumber, raw.tostring, raw.type
local encode, decode, encodes_by_default = internal.msgpack.encode, internal.msgpack.decode, internal.encodes_by_default
local LIST, MAP = internal.array_mt, internal.map_mt

local INVALID_NUMBER = 'number must not be NaN or Inf'
local function is_invalid(number)
    return number ~= number or number == huge or number == -huge
end

-- A copy of a value as the settings want it. Its tables say whether they are lists or maps.
local function prepared(value, depth, settings)
    local kind, forced = type(value), nil
    if (kind == 'table' or kind == 'userdata' and value ~= NULL) and settings.encode_load_metatables then
        value, forced = shape.resolve_object(value)
        kind = type(value)
    end
    if kind == 'number' and not settings.encode_invalid_numbers and is_invalid(value) then
        return error(INVALID_NUMBER, 0)
    elseif kind == 'function' or kind == 'thread' then
        if settings.encode_use_tostring then
            return tostring(value)
        elseif settings.encode_invalid_as_nil then
            return NULL
        end
        return error("unsupported Lua type '" .. kind .. "'", 0)
    elseif kind ~= 'table' then
        return value
    elseif depth >= settings.encode_max_depth then
        if settings.encode_deep_as_nil then
            return NULL
        end
        return error('Too high nest level - ' .. depth + 1, 0)
    end
    local length
    if forced ~= 'map' then
        length = shape.list_length(settings, value, forced == 'list' or nil)
    end
    if length then
        local list = {}
        for index = 1, length do
            local item = rawget(value, index)
            if item == nil then
                item = NULL
            end
            list[index] = prepared(item, depth + 1, settings)
        end
        return setmetatable(list, LIST)
    end
    local map = {}
    for key, item in next, value do
        map[key] = prepared(item, depth + 1, settings)
    end
    return setmetatable(map, MAP)
end

-- Changes a decoded value as the settings want it.
local function finished(value, settings)
    if type(value) == 'number' and not settings.decode_invalid_numbers and is_invalid(value) then
        return error(INVALID_NUMBER, 0)
    elseif type(value) == 'table' then
        for _, item in next, value do
            finished(item, settings)
        end
        if not settings.decode_save_metatables then
            setmetatable(value, nil)
        end
    end
    return value
end

internal.serializer('msgpack', function(msgpack, settings)
    -- The second argument of Tarantool's, a buffer of C, is not supported.
    function msgpack.encode(...)
        local count = select('#', ...)
        if count == 0 then
            return error('msgpack.encode: a Lua object expected', 0)
        elseif count > 1 then
            return error("msgpack.encode: argument 2 must be of type 'struct ibuf'", 0)
        end
        local value = ...
        if not encodes_by_default(settings) then
            value = prepared(value, 0, settings)
        end
        return encode(value, 0)
    end

    -- The value at an offset, and the offset behind it.
    local function reader(name)
        return function(...)
            local text, at = ...
            if type(text) ~= 'string' then
                return error('msgpack.' .. name .. ": a Lua string or 'char *' expected", 0)
            end
            local offset = at == nil and 1 or (type(at) == 'number' or type(at) == 'string') and tonumber(at)
            if not offset then
                return error("bad argument #2 to '?' (number expected, got " .. type(at) .. ')', 0)
            elseif offset ~= offset or offset < 1 or offset > #text and select('#', ...) > 1 then
                return error('msgpack.' .. name .. ': offset is out of bounds', 0)
            end
            local value, behind = decode(text, raw.floor(offset), 0)
            if not behind or behind > #text + 1 then
                return error('msgpack.' .. name .. ': invalid MsgPack', 0)
            end
            if not (settings.decode_invalid_numbers and settings.decode_save_metatables) then
                finished(value, settings)
            end
            return value, behind
        end
    end
    msgpack.decode, msgpack.decode_unchecked = reader('decode'), reader('decode_unchecked')
end)
