-- The library for restricted code. Harmless functions are copied before any user code runs, into tables that refuse writes.
--
-- Invariant: sessions share no table that one of them could change for another.
-- Needs: kernel/stdlib, library/bit64, library/csv, library/decimal, library/digest, library/errno, library/errors, library/fiber, library/fun_more, library/json, library/msgpack_module, library/uri, library/utf8, library/uuid, library/yaml_module, rights/granted, rights/shadows, rights/views
local internal = ...
local raw, access = internal.raw, internal.access
local error, getmetatable, next, rawget, rawset, select, setmetatable, type = raw.error, raw.debug_getmetatable, raw.next,
    raw.rawget, raw.rawset, raw.select, raw.setmetatable, raw.type
local getfenv, getinfo, sub = raw.getfenv, raw.getinfo, raw.sub
local views, guarded = internal.views, internal.granted.guarded
local wrap, is_view, target_of, bare, no_write = views.wrap, views.is_view, views.target_of, views.bare, views.no_write
local globals = _G
local user_type = globals.type

local library = {
    string = {'byte', 'char', 'endswith', 'find', 'format', 'fromhex', 'gmatch', 'gsub', 'hex', 'len', 'ljust', 'lower',
              'lstrip', 'match', 'rep', 'reverse', 'rjust', 'center', 'rstrip', 'split', 'startswith', 'strip', 'sub',
              'upper'},
    table = {'clear', 'concat', 'copy', 'deepcopy', 'insert', 'maxn', 'move', 'new', 'remove', 'sort'},
    math = {'abs', 'acos', 'asin', 'atan', 'atan2', 'ceil', 'cos', 'cosh', 'deg', 'exp', 'floor', 'fmod', 'frexp', 'huge',
            'ldexp', 'log', 'log10', 'max', 'min', 'modf', 'pi', 'pow', 'rad', 'random', 'sin', 'sinh', 'sqrt', 'tan',
            'tanh'},
    os = {'clock', 'date', 'difftime', 'time'},
    coroutine = {'create', 'isyieldable', 'resume', 'running', 'status', 'wrap', 'yield'},
    bit = {'arshift', 'band', 'bnot', 'bor', 'bswap', 'bxor', 'lshift', 'rol', 'ror', 'rshift', 'tobit', 'tohex'},
}
for name, names in next, library do
    local copy = {}
    for index = 1, #names do
        copy[names[index]] = globals[name][names[index]]
    end
    library[name] = copy
end
local basic = {}
for _, name in raw.ipairs({'assert', 'error', 'ipairs', 'pairs', 'next', 'pcall', 'rawequal', 'select', 'tonumber',
                           'tonumber64', 'tostring', 'unpack', 'xpcall', '_VERSION'}) do
    basic[name] = globals[name]
end
local plain_next, plain_ipairs, plain_unpack, plain_concat = basic.next, basic.ipairs, basic.unpack, library.table.concat
local plain_pairs = basic.pairs

function basic.type(...)
    if is_view((...)) then
        return views.type_of((...))
    end
    return user_type(...)
end

local function step(view, key)
    local target = target_of(view)
    if type(target) ~= 'table' then
        return nil
    end
    local found, value = next(target, bare(key))
    return wrap(found, found), wrap(value, found)
end

function basic.next(...)
    local list, key = ...
    if is_view(list) then
        return step(list, key)
    end
    return plain_next(...)
end

function basic.pairs(...)
    local list = ...
    if is_view(list) then
        return step, list, nil
    end
    return plain_pairs(...)
end

local function step_by_number(view, number)
    local value = view[number + 1]
    if value ~= nil then
        return number + 1, value
    end
end

function basic.ipairs(...)
    local list = ...
    if is_view(list) then
        return step_by_number, list, 0
    end
    return plain_ipairs(...)
end

-- A new list with the items of a view.
local function listed(view)
    local list = {}
    for index = 1, #view do
        list[index] = view[index]
    end
    return list
end

function basic.unpack(...)
    local list = ...
    if is_view(list) then
        return plain_unpack(listed(list), select(2, ...))
    end
    return plain_unpack(...)
end

function library.table.concat(...)
    local list = ...
    if is_view(list) then
        return plain_concat(listed(list), select(2, ...))
    end
    return plain_concat(...)
end

-- Front of a read-only table -> its content. Raw functions (rawset, table.insert and others) refuse these fronts as well.
local fixed = setmetatable({}, {__mode = 'k'})
local function is_fixed(value)
    return is_view(value) or type(value) == 'table' and fixed[value] ~= nil
end
for _, name in raw.ipairs({'clear', 'insert', 'remove', 'sort', 'move'}) do
    local change = library.table[name]
    library.table[name] = function(...)
        if is_fixed((...)) or is_fixed((select(5, ...))) then
            return no_write()
        end
        return change(...)
    end
end

function basic.rawget(list, key)
    if is_view(list) then
        return wrap(rawget(target_of(list), bare(key)), key)
    elseif type(list) ~= 'table' then
        return error("bad argument #1 to 'rawget' (table expected, got " .. type(list) .. ')', 2)
    end
    return rawget(list, key)
end

function basic.rawset(list, key, value)
    if is_view(list) then
        return no_write()
    elseif type(list) ~= 'table' then
        internal.exposed.refuse_change(list)
        return error("bad argument #1 to 'rawset' (table expected, got " .. type(list) .. ')', 2)
    elseif key == nil or key ~= key then
        return error('table index is nil', 2)
    end
    return rawset(list, key, value)
end
basic.getmetatable, basic.setmetatable = internal.shadowing.getmetatable, internal.shadowing.setmetatable

-- The methods of strings. Restricted code gets the original library, whatever others have changed in `string`. This is in
-- force once the first sandbox is made.
local strings = globals.string
local methods = {}
for name, func in next, library.string do
    methods[name] = func
end
local environments = setmetatable({}, {__mode = 'k'})
local BUILTIN = '=builtin/'

-- Whether restricted code asks for a method, if a C function (gsub, which indexes a table) or a function of this package
-- (table.move, box.error.new) does so directly. Its caller's environment decides. If a tail call hides the caller, the
-- answer is true.
local function asks_for_restricted()
    if not access.is_full() then
        return true
    end
    local level = 3
    while true do
        local info = getinfo(level, 'S')
        if not info then
            return false
        elseif info.what == 'tail' then
            return true
        elseif info.what ~= 'C' and sub(info.source, 1, #BUILTIN) ~= BUILTIN then
            return environments[getfenv(level)] ~= nil
        end
        level = level + 1
    end
end

local function find_method(_, key)
    local restricted = environments[getfenv(2)]
    if not restricted then
        local info = getinfo(2, 'S')
        restricted = (info.what == 'C' or sub(info.source, 1, #BUILTIN) == BUILTIN) and asks_for_restricted()
    end
    if restricted then
        return methods[key]
    end
    return strings[key]
end

-- Modules for require(): only functions that read or compute, none that changes settings of all sessions.
local plain_modules = internal.modules
local function module(name, names, reveals)
    local functions = {}
    for index = 1, #names do
        local func = plain_modules[name][names[index]]
        functions[names[index]] = reveals and function(...)
            return func(internal.revealed(...))
        end or func
    end
    return functions
end
-- A module of which every function is harmless. The copy is the sandboxes' own, with the tables in it.
local function copied(list)
    local copy = {}
    for key, value in next, list do
        copy[key] = type(value) == 'table' and copied(value) or value
    end
    return setmetatable(copy, getmetatable(list))
end
local function whole_module(name)
    return copied(plain_modules[name])
end
for _, name in raw.ipairs({'create', 'wrap'}) do
    library.coroutine[name] = guarded(library.coroutine[name])
end
local modules = {
    fiber = module('fiber', {'sleep', 'yield', 'time', 'time64', 'clock', 'clock64'}),
    json = module('json', {'encode', 'decode'}, true),
    yaml = module('yaml', {'encode', 'decode'}, true),
    msgpack = module('msgpack', {'encode', 'decode'}, true),
    uuid = module('uuid', {'new', 'str', 'fromstr', 'bin', 'frombin', 'is_uuid'}),
    clock = module('clock', {'time', 'realtime', 'monotonic', 'time64', 'realtime64', 'monotonic64'}),
    csv = whole_module('csv'), decimal = whole_module('decimal'), digest = whole_module('digest'),
    errno = whole_module('errno'), uri = whole_module('uri'), utf8 = whole_module('utf8'),
    ['table.clear'] = library.table.clear, ['table.new'] = library.table.new,
}

local function fix(list, set)
    if fixed[list] then
        return list
    end
    for key, value in next, list do
        if type(value) == 'table' then
            list[key] = fix(value)
        end
    end
    local meta = getmetatable(list)
    local front = setmetatable({}, {__metatable = false, __index = list, __newindex = set or no_write,
                                    __call = meta and rawget(meta, '__call')})
    fixed[front] = list
    return front
end

local plain_rawset, plain_rawget = basic.rawset, basic.rawget
function basic.rawset(list, key, value)
    if type(list) == 'table' and fixed[list] then
        return no_write()
    end
    return plain_rawset(list, key, value)
end

function basic.rawget(list, key)
    return plain_rawget(type(list) == 'table' and fixed[list] or list, key)
end

local view_pairs = basic.pairs
local function fixed_step(front, key)
    return next(fixed[front], key)
end
function basic.pairs(...)
    local list = ...
    if type(list) == 'table' and fixed[list] then
        return fixed_step, list, nil
    end
    return view_pairs(...)
end

modules.fun = internal.new_fun(fix)

internal.harmless = {basic = basic, library = library, modules = modules, fix = fix, environments = environments,
                     find_method = find_method}
