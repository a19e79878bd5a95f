-- Common part of the modules yaml and json: their settings, and new(), which makes another module with separate settings.
-- Names, defaults and effects: Tarantool 2.6, which does not refuse any value either.
-- Needs: kernel/guard
local internal = ...
local raw = internal.raw
local NULL, error, floor, huge, next, rawset, select, setmetatable, tonumber, type = internal.NULL, raw.error, raw.floor, raw.huge,
    raw.next, raw.rawset, raw.select, raw.setmetatable, raw.tonumber, raw.type

local DEFAULTS = {
    decode_invalid_numbers = true, decode_max_depth = 128, decode_save_metatables = true, encode_deep_as_nil = false,
    encode_invalid_as_nil = false, encode_invalid_numbers = true, encode_load_metatables = true, encode_max_depth = 128,
    encode_number_precision = 14, encode_sparse_convert = true, encode_sparse_ratio = 2, encode_sparse_safe = 10,
    encode_use_tostring = false,
}
internal.serializer_defaults = DEFAULTS

-- Metatables of decoded tables. They keep an empty map a map. The first new key removes the metatable.
local function newindex(self, key, value)
    rawset(setmetatable(self, nil), key, value)
end
local ARRAY, MAP = {__serialize = 'seq', __newindex = newindex}, {__serialize = 'map', __newindex = newindex}
internal.array_mt, internal.map_mt = ARRAY, MAP

-- A value as the setting that is in force: as C converts it to an int where the setting is a number.
local DIGITS_MAX, SPARSE_MAX = 14, 2^20
local function in_force(key, value)
    if type(DEFAULTS[key]) == 'boolean' then
        return value and true or false
    end
    local number = (type(value) == 'number' or type(value) == 'string') and tonumber(value) or 0
    if number ~= number or number == huge or number == -huge then
        number = 0
    end
    number = (number < 0 and -floor(-number) or floor(number)) % 2^32
    number = number < 2^31 and number or number - 2^32
    if key == 'encode_number_precision' then
        return (number < 1 or number > DIGITS_MAX) and DIGITS_MAX or number
    elseif key == 'encode_sparse_ratio' then
        return number < 0 and 0 or number
    elseif key == 'encode_sparse_safe' then
        return (number < 0 or number > SPARSE_MAX) and SPARSE_MAX or number
    end
    return number
end

local function copy(settings)
    local made = {}
    for key, value in next, settings do
        made[key] = value
    end
    return made
end

-- The settings of one call: the module's, overridden by those in `options`.
function internal.settings_of_call(settings, options)
    if options == nil then
        return settings
    end
    if type(options) ~= 'table' then
        return error('attempt to index a ' .. type(options) .. ' value', 0)
    end
    local made = copy(settings)
    for key in next, DEFAULTS do
        if options[key] ~= nil then
            made[key] = in_force(key, options[key])
        end
    end
    return made
end

-- Whether all settings have their defaults: then the fast writers can be used.
function internal.encodes_by_default(settings)
    for key, value in next, DEFAULTS do
        if settings[key] ~= value then
            return false
        end
    end
    return true
end

-- Makes a module and registers it under its name. fill(module, settings) adds its functions. `cfg` shows the values as they
-- were given; only a call of it puts them in force.
function internal.serializer(name, fill)
    local function make()
        local settings = copy(DEFAULTS)
        local cfg = setmetatable(copy(DEFAULTS), {__call = function(self, ...)
            local changes = ...
            if type(changes) ~= 'table' then
                local got = select('#', ...) == 0 and 'no value' or type(changes)
                return error("bad argument #2 to '?' (table expected, got " .. got .. ')', 0)
            end
            for key in next, DEFAULTS do
                local value = changes[key]
                if value ~= nil then
                    self[key], settings[key] = value, in_force(key, value)
                end
            end
        end})
        local module = {NULL = NULL, array_mt = ARRAY, map_mt = MAP, cfg = cfg}
        module.new = make
        fill(module, settings)
        return module
    end
    internal.modules[name] = make()
end
