-- box.error: error objects with a code, a type and a message. Behaviour: Tarantool 2.6.
-- Needs: kernel/ctypes, library/box, library/error_codes, rights/access
local internal = ...
local raw, task, diagnostics, is_full = internal.raw, internal.task, internal.access.diagnostics, internal.access.is_full
local error, find, floor, getinfo, gsub, match, newproxy, next, select, setmetatable, sub, tonumber, type = raw.error,
    raw.find, raw.floor, raw.getinfo, raw.gsub, raw.match, raw.newproxy, raw.next, raw.select, raw.setmetatable, raw.sub,
    raw.tonumber, raw.type
local type_name, match_text = _G.type, string.match  -- the users' ones: of cdata, and with interruption

local CODES = internal.error_codes
local TEMPLATES = internal.nameless_templates
for _, row in next, CODES do
    TEMPLATES[row[1]] = row[2]
end
local ACCESS_DENIED, UNKNOWN_TEMPLATE = 42, 'Unknown error'
-- Maximum lengths of a message and of a type in bytes, as in Tarantool.
local MESSAGE_MAX, TYPE_MAX = 511, 63

-- An error object is an opaque userdata. Its fields are in its environment, which users cannot reach. (A weak table of
-- fields would keep chains of errors alive: in Lua 5.1 its values keep its keys.)
local template = newproxy(true)
local meta = raw.debug_getmetatable(template)
local fields_of, set_fields, cdata = raw.debug_getfenv, raw.debug_setfenv, internal.cdata

local function is_error(value)
    return type(value) == 'userdata' and raw.debug_getmetatable(value) == meta
end

-- The name of a chunk by its source, as LuaJIT writes it: a few bytes longer than PUC's `short_src`.
local NAME_SIZE = 60
local function name_of(source)
    local mark = sub(source, 1, 1)
    if mark == '=' then
        return sub(source, 2, NAME_SIZE)
    elseif mark == '@' then
        return #source <= NAME_SIZE and sub(source, 2) or '...' .. sub(source, 4 - NAME_SIZE)
    end
    local shown = match(sub(source, 1, NAME_SIZE - 12), '^[^%z\1-\31]*')
    if shown ~= source then
        shown = sub(shown, 1, NAME_SIZE - 15) .. '...'
    end
    return '[string "' .. shown .. '"]'
end

-- The file and line where an error is made: those of the calling function; nil without one. Lost frames of tail calls are
-- skipped, since LuaJIT has none. For users, functions of this package count as C functions.
local OWN, BUILTIN = getinfo(1, 'S').source, '=builtin/'
local LEVELS_MAX, C_FILE, C_LINE = 50, '[C]', 2^32 - 1
local function place(for_users)
    local in_fiber, is_in_c = task.current().func ~= nil, false
    for level = 3, LEVELS_MAX do
        local info = getinfo(level, 'Sl')
        if not info then
            return nil
        end
        if info.what ~= 'tail' and info.source ~= OWN then
            local is_c = info.what == 'C' or for_users and sub(info.source, 1, #BUILTIN) == BUILTIN
            -- In Tarantool no C function is below a fiber's.
            if is_c and not (for_users and in_fiber) or is_in_c and not is_c then
                return C_FILE, C_LINE
            elseif not is_c then
                return name_of(info.source), info.currentline
            end
            is_in_c = true
        end
    end
end

local function cut(text, most)
    return sub(match(text, '^%Z*'), 1, most)
end

-- Makes an error. `custom_type`: nil for an error with a code of Tarantool's.
local function make(for_users, code, message, custom_type)
    local object = newproxy(template)
    local file, line = place(for_users)
    custom_type = custom_type and cut(custom_type, TYPE_MAX)
    set_fields(object, {
        code = code, message = cut(message, MESSAGE_MAX), type = custom_type or 'ClientError', custom_type = custom_type,
        base_type = custom_type and 'CustomError' or 'ClientError', file = file, line = line,
        prev = false, effect = false, maker = task.current().session,
    })
    cdata[object] = true
    return object
end

-- Makes the object of an error that has only a text. `kind`: its type.
function internal.lua_error(message, kind)
    local object = make(false, nil, message)
    local fields = fields_of(object)
    fields.type, fields.base_type, fields.file, fields.line = kind, kind, nil, nil
    return object
end

-- The object of an error that another server has raised. `kind`: its type there, '' if unknown.
function internal.remote_error(code, message, kind)
    local object = make(true, code, message)
    local fields = fields_of(object)
    if kind == 'LuajitError' then
        fields.type, fields.base_type, fields.code = kind, kind, nil
    elseif kind ~= '' then
        fields.type = kind
    end
    return object
end

-- The fields that users see.
local FIELDS = {code = true, message = true, type = true, base_type = true, custom_type = true, access_type = true,
                object_type = true, object_name = true, prev = true}

local function trace_of(fields)
    return fields.file and {{file = fields.file, line = fields.line}} or {}
end

local methods = {}
meta.__metatable = 'ffi'
meta.__index = function(object, key)
    if key == 'trace' then
        return trace_of(fields_of(object))
    end
    return FIELDS[key] and fields_of(object)[key] or methods[key]
end
meta.__newindex = function()
    return error('attempt to write to constant location', 2)
end
local function message_of(object)
    return fields_of(object).message
end
meta.__tostring, meta.__serialize = message_of, message_of
meta.__concat = function(left, right)
    if is_error(left) then
        return message_of(left) .. right
    end
    return left .. message_of(right)
end
internal.ctypes.define(meta, 'struct error', 'const struct error')

-- The fields of an error object (see make()); nil for other values.
function internal.error_fields(object)
    return raw.debug_getmetatable(object) == meta and fields_of(object) or nil
end

-- Restricted code can get errors of other sessions, and must not change them.
local function may_write(object)
    return is_full() or fields_of(object).maker == task.current().session
end

-- Makes `reason` the reason of the error `object`; nil for none. An error is the reason of at most one other. Atomic: other
-- sessions may use the same errors. Returns true, and does nothing, if links were made since there were `seen` of them.
local links = 0
local function unlink(reason)
    local fields = fields_of(reason)
    if fields.effect then
        fields_of(fields.effect).prev, fields.effect = false, false
    end
end
local function link(object, reason, seen)
    task.lock()
    if reason and seen ~= links then
        task.unlock()
        return true
    end
    local fields = fields_of(object)
    if fields.prev then
        unlink(fields.prev)
    end
    if reason then
        unlink(reason)
        fields.prev, fields_of(reason).effect, links = reason, object, links + 1
    end
    task.unlock()
end

local function remember(object)
    local effect = fields_of(object).effect
    if effect and may_write(object) then
        link(effect, nil)           -- the last error is the reason of no other, as in Tarantool
    end
    diagnostics().last_error = object
    return object
end

local function need(is_right, usage)
    if not is_right then
        return error('Usage: ' .. usage, 0)
    end
end

function methods.raise(...)
    need(is_error((...)), 'error:raise()')
    return error(remember((...)), 0)
end

function methods.unpack(...)
    need(is_error((...)), 'error:unpack()')
    local fields, copy = fields_of((...)), {}
    for key in next, FIELDS do
        copy[key] = fields[key] or nil
    end
    copy.trace = trace_of(fields)
    return copy
end

function methods.match(...)
    need(is_error((...)), 'error:match()')
    return match_text(message_of((...)), select(2, ...))
end

local SET_PREV = 'error1:set_prev(error2)'
function methods.set_prev(...)
    local object, reason = ...
    need(is_error(object), SET_PREV)
    if reason == internal.NULL then
        reason = nil
    end
    need(reason == nil or is_error(reason), SET_PREV)
    if not may_write(object) or reason and not may_write(reason) then
        return internal.access.deny('Write', 'universe', '')
    end
    -- A long chain takes several slices. If another session makes a link meanwhile, the search begins again.
    repeat
        local seen, found = links, reason
        while found do
            if found == object then
                return error('Cycles are not allowed', 0)
            end
            found = fields_of(found).prev
        end
    until not link(object, reason, seen)
end

-- A number as C converts it to an int.
local function to_int(number)
    if number ~= number or number >= 2^63 or number < -2^63 then
        return 0
    end
    number = (number < 0 and -floor(-number) or floor(number)) % 2^32
    return number >= 2^31 and number - 2^32 or number
end

local function text_or(value, default)
    return (type(value) == 'string' or type(value) == 'number') and value .. '' or default
end

local function from_table(value)
    return make(true, to_int(tonumber(text_or(value.code, 0)) or 0), text_or(value.reason, ''), text_or(value.type))
end

local fill_format = internal.format
local function fill(...)
    local ok, message = task.protected(fill_format, ...)
    if not ok then
        return error(type(message) == 'string' and gsub(internal.strip_position(message), "'format' %(", "'?' (") or message, 0)
    end
    return message
end

-- The values with strings up to their first zero byte, as C takes them.
local function all_cut(count, value, ...)
    if count == 0 then
        return
    end
    return type(value) == 'string' and match(value, '^%Z*') or value, all_cut(count - 1, ...)
end

-- Makes an error from (code, arguments...), (type, format, arguments...), or one table; nil for other arguments.
local function build(for_users, first, ...)
    local kind, count = type(first), select('#', ...)
    if kind == 'table' and count == 0 then
        return from_table(first)
    elseif kind == 'number' then
        local code = to_int(first)
        local text = TEMPLATES[code] or UNKNOWN_TEMPLATE
        if count == 0 and find(text, '%', 1, true) then
            return nil
        end
        return make(for_users, code, fill(text, all_cut(count, ...)))
    elseif kind == 'string' and type((...)) == 'string' then
        return make(for_users, 0, fill(...), first)
    end
end

local box_error = {}

function box_error.new(...)
    local built = build(true, ...)
    if not built then
        return error('Usage: box.error.new(code, args) or box.error.new(type, args)', 0)
    end
    return built
end

local function need_nothing(name, ...)
    if select('#', ...) > 0 then
        return error('box.error.' .. name .. '(): bad arguments', 0)
    end
end

function box_error.last(...)
    need_nothing('last', ...)
    return diagnostics().last_error
end

function box_error.clear(...)
    need_nothing('clear', ...)
    diagnostics().last_error = nil
end

function box_error.set(...)
    local object = ...
    if select('#', ...) == 0 then
        return error('Usage: box.error.set(error)', 0)
    elseif not is_error(object) then
        return error('Invalid argument #1 (error expected, got ' .. type_name(object) .. ')', 0)
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
        local built = select('#', ...) == 1 and is_error((...)) and (...) or build(true, ...)
        if not built then
            return error('box.error(): bad arguments', 0)
        end
        return error(remember(built), 0)
    end,
})

-- Trusted code raises an error object, which becomes the last error.
function internal.raise_object(object)
    return error(remember(object), 0)
end

-- Trusted code raises by name: internal.raise('NO_SUCH_USER', name).
function internal.raise(name, ...)
    local code = codes[name]
    local object = build(false, code, ...)
    if code == ACCESS_DENIED then
        local fields = fields_of(object)
        fields.type, fields.access_type, fields.object_type, fields.object_name = 'AccessDeniedError', ...
    end
    return error(remember(object), 0)
end
