-- box.error: error objects with a code, a type and a message. Behaviour: Tarantool 2.6.
-- Needs: library/box, rights/access
local internal = ...
local raw, task, diagnostics = internal.raw, internal.task, internal.access.diagnostics
local error, format, newproxy, next, pcall, select, setmetatable, tostring, type = raw.error, raw.format,
    raw.newproxy, raw.next, raw.pcall, raw.select, raw.setmetatable, raw.tostring, raw.type

-- Error codes and message templates by name. Both are part of the protocol.
local CODES = {
    UNKNOWN = {0, 'Unknown error'},
    ILLEGAL_PARAMS = {1, 'Illegal parameters, %s'},
    UNSUPPORTED = {5, '%s does not support %s'},
    INVALID_MSGPACK = {20, 'Invalid MsgPack - %s'},
    PROC_LUA = {32, '%s'},
    NO_SUCH_PROC = {33, "Procedure '%s' is not defined"},
    ACCESS_DENIED = {42, "%s access to %s '%s' is denied for user '%s'"},
    CREATE_USER = {43, "Failed to create user '%s': %s"},
    DROP_USER = {44, "Failed to drop user or role '%s': %s"},
    NO_SUCH_USER = {45, "User '%s' is not found"},
    USER_EXISTS = {46, "User '%s' already exists"},
    PASSWORD_MISMATCH = {47, "Incorrect password supplied for user '%s'"},
    UNKNOWN_REQUEST_TYPE = {48, 'Unknown request type %s'},
    UNKNOWN_SCHEMA_OBJECT = {49, "Unknown object type '%s'"},
    CREATE_FUNCTION = {50, "Failed to create function '%s': %s"},
    NO_SUCH_FUNCTION = {51, "Function '%s' does not exist"},
    FUNCTION_EXISTS = {52, "Function '%s' already exists"},
    RELOAD_CFG = {58, "Can't set option '%s' dynamically"},
    CFG = {59, "Incorrect value for option '%s': %s"},
    IDENTIFIER = {70, "Invalid identifier '%s' (expected printable symbols only or it is too long)"},
    TIMEOUT = {78, 'Timeout exceeded'},
    NO_SUCH_ROLE = {82, "Role '%s' is not found"},
    ROLE_EXISTS = {83, "Role '%s' already exists"},
    CREATE_ROLE = {84, "Failed to create role '%s': %s"},
    SESSION_CLOSED = {86, 'Session is closed'},
    ROLE_LOOP = {87, "Granting role '%s' to role '%s' would create a loop"},
    GRANT = {88, 'Incorrect grant arguments: %s'},
    PRIV_GRANTED = {89, "User '%s' already has %s access on %s%s"},
    ROLE_GRANTED = {90, "User '%s' already has role '%s'"},
    PRIV_NOT_GRANTED = {91, "User '%s' does not have %s access on %s '%s'"},
    ROLE_NOT_GRANTED = {92, "User '%s' does not have role '%s'"},
    UNSUPPORTED_PRIV = {98, "Unsupported %s privilege '%s'"},
    FUNCTION_LANGUAGE = {100, "Unsupported language '%s' specified for function '%s'"},
    GUEST_USER_PASSWORD = {96, 'Setting password for guest user has no effect'},
}
local TEMPLATES = {}
for _, row in next, CODES do
    TEMPLATES[row[1]] = row[2]
end
local ACCESS_DENIED = 42
local UNKNOWN_TEMPLATE = 'Unknown error'

-- An error object is an opaque userdata; its fields are in `cdata`, which users cannot reach.
local template = newproxy(true)
local meta = raw.debug_getmetatable(template)
local fields_of = internal.cdata        -- see guard.lua

local function make(code, kind, message)
    local object = newproxy(template)
    message = raw.match(message, '^%Z*')
    fields_of[object] = {code = code, type = kind, base_type = 'ClientError', message = message}
    return object
end

local methods = {}
meta.__metatable = 'ffi'
meta.__index = function(object, key)
    if key == 'trace' then
        return {}
    end
    local value = fields_of[object][key]
    if value ~= nil then
        return value
    end
    return methods[key]
end
meta.__newindex = function()
    return error('attempt to write to constant location', 2)
end
local function message_of(object)
    return fields_of[object].message
end
meta.__tostring, meta.__serialize = message_of, message_of

-- The fields of an error object: code, type, message and, for a denial, what was denied; nil for other values.
function internal.error_fields(object)
    return raw.debug_getmetatable(object) == meta and fields_of[object] or nil
end

local function remember(object)
    diagnostics().last_error = object
    return object
end

function methods.raise(object)
    return error(remember(object), 0)
end

function methods.unpack(object)
    local copy = {}
    for key, value in next, fields_of[object] do
        copy[key] = value
    end
    copy.trace = {}
    return copy
end

local match = string.match      -- the users' one, which can be interrupted
function methods.match(object, ...)
    return match(message_of(object), ...)
end

local function is_error(value)
    return type(value) == 'userdata' and fields_of[value] ~= nil and raw.debug_getmetatable(value) == meta
end

-- A value's text; its type if __tostring returns no text.
local function text_of(value)
    local text = tostring(value)
    return type(text) == 'string' and text or type(text)
end

local function from_table(value)
    local reason, kind = value.reason, value.type
    local made = make(type(value.code) == 'number' and value.code or 0, kind and text_of(kind) or 'ClientError',
                      reason == nil and '' or text_of(reason))
    if kind then
        local fields = fields_of[made]
        fields.base_type, fields.custom_type = 'CustomError', fields.type
    end
    return made
end

local function fill(text, ...)
    local ok, message = pcall(format, text, ...)
    if not ok then
        return error("bad argument #" .. select('#', ...) + 2 .. " to '?' (no value)", 0)
    end
    return message
end

local function strings(count, value, ...)
    if count == 0 then
        return
    end
    return tostring(value), strings(count - 1, ...)
end

-- Makes an error from (code, arguments...), (type, format, arguments...), or one table; nil for other arguments.
local function build(first, ...)
    local kind, count = type(first), select('#', ...)
    if kind == 'table' then
        return from_table(first)
    elseif kind == 'number' and first % 1 == 0 then
        local text = TEMPLATES[first] or UNKNOWN_TEMPLATE
        if count == 0 and raw.find(text, '%s', 1, true) then
            return nil
        end
        local made = make(first, first == ACCESS_DENIED and 'AccessDeniedError' or 'ClientError',
                          fill(text, strings(count, ...)))
        if first == ACCESS_DENIED then
            local privilege, kind, name = ...
            local fields = fields_of[made]
            fields.access_type, fields.object_type, fields.object_name = privilege, kind, name
        end
        return made
    elseif kind == 'string' and count > 0 then
        return make(0, first, fill(tostring((...)), select(2, ...)))
    end
end

local box_error = {}

function box_error.new(...)
    local built = select('#', ...) > 0 and build(...)
    if not built then
        return error('Usage: box.error.new(code, args) or box.error.new(type, args)', 0)
    end
    return built
end

function box_error.last()
    return diagnostics().last_error
end

function box_error.clear()
    diagnostics().last_error = nil
end

function box_error.set(object)
    if not is_error(object) then
        return error('Usage: box.error.set(error object)', 0)
    end
    remember(object)
end

-- Whether a value is an error object.
function box_error.is(value)
    return is_error(value)
end

local codes = {}
for name, row in next, CODES do
    codes[name] = row[1]
end

_G.box.error = setmetatable(codes, {
    __index = box_error,
    -- Raises an error object, or an error made from the arguments; without arguments the last error again.
    __call = function(_, ...)
        if select('#', ...) == 0 then
            local last = diagnostics().last_error
            if last == nil then
                return
            end
            return error(last, 0)
        end
        local built = is_error((...)) and (...) or build(...)
        if not built then
            return error('box.error(): bad arguments', 0)
        end
        return error(remember(built), 0)
    end,
})

-- Trusted code raises by name: internal.raise('NO_SUCH_USER', name).
function internal.raise(name, ...)
    return error(remember(build(codes[name], ...)), 0)
end
