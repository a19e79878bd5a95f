-- Common part of the modules yaml and json: their settings, and new(), which makes another module with separate settings.
-- Names, defaults and effects: Tarantool 2.6, which does not check the values either.
-- Needs: kernel/guard
local internal = ...
local raw = internal.raw
local NULL, error, next, rawset, select, setmetatable, type = internal.NULL, raw.error, raw.next, raw.rawset, raw.select,
    raw.setmetatable, raw.type

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
            made[key] = options[key]
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

-- Makes a module and registers it under its name. fill(module, settings) adds its functions.
function internal.serializer(name, fill)
    local function make()
        local settings = setmetatable(copy(DEFAULTS), {__call = function(self, ...)
            local changes = ...
            if type(changes) ~= 'table' then
                local got = select('#', ...) == 0 and 'no value' or type(changes)
                return error("bad argument #2 to '?' (table expected, got " .. got .. ')', 0)
            end
            for key in next, DEFAULTS do
                if changes[key] ~= nil then
                    self[key] = changes[key]
                end
            end
        end})
        local module = {NULL = NULL, array_mt = ARRAY, map_mt = MAP, cfg = settings}
        module.new = make
        fill(module, settings)
        return module
    end
    internal.modules[name] = make()
end
