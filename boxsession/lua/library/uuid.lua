-- The module uuid: universally unique identifiers as objects that compare by value. Behaviour and messages: Tarantool 2.6.
-- Needs: kernel/ctypes, kernel/guard, kernel/objects, library/modules
local internal, RANDOM = ...
local raw = internal.raw
local byte, char, error, format, match, reverse, rep, setmetatable, sub, tonumber, type = raw.byte, raw.char, raw.error,
    raw.format, raw.match, raw.reverse, raw.rep, raw.setmetatable, raw.sub, raw.tonumber, raw.type

local methods, meta, make, state_of = internal.class('uuid')
local uuid = {}
internal.modules.uuid = uuid

-- Makes an object. Its state is its 16 bytes in network order.
local function from_bytes(bytes)
    local object = make(bytes)
    internal.cdata[object] = true
    return object
end

internal.uuid_of = from_bytes

-- The bytes of a uuid object, nil for other objects.
function internal.uuid_bytes(object)
    return raw.debug_getmetatable(object) == meta and state_of(object) or nil
end

local function text_of(bytes)
    return (format(rep('%02x', 4) .. rep('-' .. rep('%02x', 2), 3) .. '-' .. rep('%02x', 6), byte(bytes, 1, 16)))
end

-- Converts to or from the order in which the first three fields are little-endian.
local function swapped(bytes)
    return reverse(sub(bytes, 1, 4)) .. reverse(sub(bytes, 5, 6)) .. reverse(sub(bytes, 7, 8)) .. sub(bytes, 9)
end

local IS_SWAPPED = {l = true, h = true, b = false, n = false}
local function in_order(bytes, order)
    if order == nil then
        order = 'l'
    end
    local is_swapped = IS_SWAPPED[order]
    if is_swapped == nil then
        return error('invalid byteorder, valid is l, b, h, n', 0)
    end
    return is_swapped and swapped(bytes) or bytes
end

local function bytes_of(usage, ...)
    local object = ...
    if type(object) ~= 'userdata' or raw.debug_getmetatable(object) ~= meta then
        return error('Usage: uuid:' .. usage, 0)
    end
    return state_of(object)
end

function methods.str(...)
    return text_of(bytes_of('str()', ...))
end

function methods.bin(...)
    local bytes = bytes_of('bin([byteorder])', ...)
    return in_order(bytes, (raw.select(2, ...)))
end

local NIL = rep('\0', 16)
function methods.isnil(...)
    return bytes_of('isnil()', ...) == NIL
end

-- The field `node`: its bytes have the indexes 0 to 5, as in an array of C. Its state is the uuid's.
local _, node_meta, make_node, node_of = internal.class('node')
local NODE, NODE_BYTES = 11, 6
node_meta.__metatable = 'ffi'
node_meta.__index = function(node, index)
    if type(index) == 'string' then
        return error("'unsigned char [6]' has no member named '" .. index .. "'", 2)
    elseif type(index) ~= 'number' then
        return error("'unsigned char [6]' cannot be indexed with '" .. type(index) .. "'", 2)
    end
    index = raw.floor(index)
    return index >= 0 and index < NODE_BYTES and byte(node_of(node), NODE + index) or nil
end
local CONSTANT = 'attempt to write to constant location'
node_meta.__newindex = function()
    return error(CONSTANT, 2)
end
node_meta.__eq = function(one, other)
    return node_of(one) == node_of(other)
end
node_meta.__tostring = function(node)
    return format('cdata<unsigned char (&)[6]>: 0x' .. rep('%02x', NODE_BYTES), byte(node_of(node), NODE, -1))
end

-- Fields of Tarantool's struct tt_uuid: positions of their first and last bytes.
local FIELDS = {time_low = {1, 4}, time_mid = {5, 6}, time_hi_and_version = {7, 8}, clock_seq_hi_and_reserved = {9, 9},
                clock_seq_low = {10, 10}}

local function no_member(key)
    if type(key) ~= 'string' then
        return error("'struct tt_uuid' cannot be indexed with '" .. type(key) .. "'", 3)
    end
    return error("'struct tt_uuid' has no member named '" .. key .. "'", 3)
end

meta.__metatable = 'ffi'
meta.__index = function(object, key)
    local method, field = methods[key], FIELDS[key]
    if method then
        return method
    elseif key == 'node' then
        local node = make_node(state_of(object))
        internal.cdata[node] = true
        return node
    elseif field then
        local number = 0
        for index = field[1], field[2] do
            number = number * 256 + byte(state_of(object), index)
        end
        return number
    end
    return no_member(key)
end
meta.__newindex = function(_, key)
    if FIELDS[key] or key == 'node' then
        return error(CONSTANT, 2)
    end
    return no_member(key)
end
meta.__eq = function(one, other)
    return state_of(one) == state_of(other)
end
local function shown(object)
    return text_of(state_of(object))
end
meta.__tostring, meta.__serialize = shown, shown

internal.ctypes.define(meta, 'struct tt_uuid')
internal.ctypes.define(node_meta, 'unsigned char [6]')

uuid.NULL = from_bytes(NIL)

-- A random uuid (version 4 of RFC 4122).
function uuid.new()
    local bytes = internal.task.text(RANDOM, 16)
    return from_bytes(sub(bytes, 1, 6) .. char(64 + byte(bytes, 7) % 16) .. sub(bytes, 8, 8)
                      .. char(128 + byte(bytes, 9) % 64) .. sub(bytes, 10))
end

function uuid.str()
    return uuid.new():str()
end

function uuid.bin(order)
    return in_order(state_of(uuid.new()), order)
end

local TEXT = '^' .. rep('%x', 8) .. rep('%-' .. rep('%x', 4), 3) .. '%-' .. rep('%x', 12) .. '$'

-- Returns nil if the text is not a uuid.
function uuid.fromstr(text)
    if type(text) ~= 'string' then
        return error('fromstr(str)', 0)
    end
    if not match(text, TEXT) then
        return nil
    end
    return from_bytes((raw.gsub(raw.gsub(text, '-', ''), '..', function(pair)
        return char(tonumber(pair, 16))
    end)))
end

function uuid.frombin(bytes, order)
    if type(bytes) ~= 'string' or #bytes ~= 16 then
        return error('frombin(bin, [byteorder])', 0)
    end
    return from_bytes(in_order(bytes, order))
end

function uuid.is_uuid(value)
    return type(value) == 'userdata' and raw.debug_getmetatable(value) == meta
end

setmetatable(uuid, {__call = function()
    return uuid.new()
end})
