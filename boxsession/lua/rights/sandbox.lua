-- What a user without execute on universe evaluates in: an environment of its session's own, that holds only what is
-- harmless, what the session itself makes, and the functions that were granted. With read on universe, it shows
-- everybody's globals besides, and takes no write.
--
-- What is harmless is copied from the libraries before any user's code has run, into tables that cannot be changed; so
-- sessions share nothing that one of them could prepare for another. Tables of others are seen through views: userdata that
-- give their content piece by piece, and refuse everything else. What goes to a granted function and comes back is copied.
-- What acts in the name of who calls it refuses where others' code runs, which may have found a restricted session's
-- function in a storage. For others, the metatables that a restricted session has set do nothing.
-- Needs: library/console, library/errors, library/fiber, library/json, library/log, library/msgpack, library/schema, library/sessions, library/uuid, library/yaml_module
local internal = ...
local raw, task, access = internal.raw, internal.task, internal.access
local error, getmetatable, newproxy, next, rawequal, rawget, rawset, select, setfenv, setmetatable, tostring, type =
    raw.error, raw.debug_getmetatable, raw.newproxy, raw.next, raw.rawequal, raw.rawget, raw.rawset, raw.select, raw.setfenv,
    raw.setmetatable, raw.tostring, raw.type
local gmatch, concat, find, getfenv, getinfo, sub = raw.gmatch, raw.concat, raw.find, raw.getfenv, raw.getinfo, raw.sub
local NULL, cdata = internal.NULL, internal.cdata
local current, deny, effective = task.current, access.deny, access.effective
local READ = access.READ
local globals, box = _G, _G.box
local user_type = _G.type

-- Views -----------------------------------------------------------------------------------------------------------------

local base = newproxy(true)
local view_meta = getmetatable(base)
local targets = setmetatable({}, {__mode = 'k'})        -- view -> {target, name}
local views = setmetatable({}, {__mode = 'kv'})         -- target -> view, so that a thing is equal to itself

local function wrap(value, name)
    local kind = type(value)
    if kind == 'table' or kind == 'function' or kind == 'thread' or kind == 'userdata' and not cdata[value] then
        local view = views[value]
        if not view then
            view = newproxy(base)
            targets[view] = {value, type(name) == 'string' and name or '?'}
            view = task.first(views, value, view)
        end
        return view
    end
    return value
end

local function is_view(value)
    return type(value) == 'userdata' and targets[value] ~= nil
end

-- What a view shows, for who may still read it.
local function target_of(view)
    if access.rights(current().session.uid).level < READ then
        return deny('Read', 'universe', '')
    end
    return targets[view][1]
end

local function bare(value)
    if is_view(value) then
        return targets[value][1]
    end
    return value
end

local function no_write()
    return deny('Write', 'universe', '')
end

-- A field, as plain Lua finds it. A function that would compute it is not called.
local function field(target, key)
    for _ = 1, 100 do
        if type(target) ~= 'table' then
            return nil
        end
        local value = rawget(target, key)
        if value ~= nil then
            return value
        end
        local meta = target ~= globals and getmetatable(target)
        target = type(meta) == 'table' and rawget(meta, '__index') or nil
        if type(target) == 'function' then
            return deny('Execute', 'function', '__index')
        end
    end
end

function view_meta.__index(view, key)
    return wrap(field(target_of(view), bare(key)), key)
end
view_meta.__newindex = no_write
view_meta.__metatable = false
function view_meta.__call(view)
    return deny('Execute', 'function', targets[view][2])
end
function view_meta.__len(view)
    local target = target_of(view)
    return type(target) == 'table' and #target or 0
end
function view_meta.__tostring(view)
    return type(targets[view][1]) .. ': a view of ' .. targets[view][2]
end

-- What a view shows as plain data: no function of anybody's is called on the way, nor can it be afterwards.
local function bare_copy(value, copies)
    local kind = type(value)
    if kind == 'table' then
        local copy = copies[value]
        if not copy then
            copy = {}
            copies[value] = copy
            for key, item in next, value do
                copy[bare_copy(key, copies)] = bare_copy(item, copies)
            end
        end
        return copy
    elseif kind == 'userdata' and not cdata[value] then
        return 'userdata'
    end
    return value
end

-- Values as plain data, for what writes them: own tables say how they are shown before any view is looked into.
local SHAPES = {list = {__serialize = 'seq'}, map = {__serialize = 'map'}, sequence = {__serialize = 'sequence'},
                mapping = {__serialize = 'mapping'}}
local function reveal(value, copies)
    local resolved, kind, flow = value, nil, nil
    if type(value) == 'table' then
        resolved, kind, flow = internal.tagged.resolve(value)
    end
    if is_view(resolved) then
        return bare_copy(target_of(resolved), copies)
    elseif type(resolved) ~= 'table' then
        return resolved
    elseif copies[resolved] then
        return copies[resolved]
    end
    local copy = {}
    copies[resolved] = copy
    for key, item in next, resolved do
        copy[reveal(key, copies)] = reveal(item, copies)
    end
    if kind then
        setmetatable(copy, SHAPES[kind == 'list' and (flow and 'list' or 'sequence') or flow and 'map' or 'mapping'])
    end
    return copy
end

local function revealed(copies, count, value, ...)
    if count == 0 then
        return
    end
    return reveal(value, copies), revealed(copies, count - 1, ...)
end

-- What a restricted session shows.
function internal.revealed(...)
    return revealed({}, select('#', ...), ...)
end

-- Copies across the border ------------------------------------------------------------------------------------------------

local DEEPEST = 100
local function copied(value, copies, depth)
    if is_view(value) then
        value = target_of(value)
    end
    local kind = type(value)
    if kind == 'function' or kind == 'thread' or kind == 'userdata' and not cdata[value] then
        return error('cannot pass a ' .. kind .. ' between a granted function and who calls it', 0)
    elseif kind ~= 'table' then
        return value
    elseif copies[value] then
        return copies[value]
    elseif depth > DEEPEST then
        return error('cannot pass a table nested deeper than ' .. DEEPEST, 0)
    end
    local copy = {}
    copies[value] = copy
    for key, item in next, value do
        copy[copied(key, copies, depth + 1)] = copied(item, copies, depth + 1)
    end
    return copy
end

local function all_copied(copies, count, value, ...)
    if count == 0 then
        return
    end
    return copied(value, copies, 0), all_copied(copies, count - 1, ...)
end

local function results(ok, ...)
    if ok then
        return all_copied({}, select('#', ...), ...)
    end
    local problem = ...
    if type(problem) == 'table' then
        problem = copied(problem, {}, 0)
    elseif type(problem) == 'function' or type(problem) == 'thread' or type(problem) == 'userdata' and not cdata[problem] then
        problem = tostring(problem)
    end
    return error(problem, 0)
end

local function granted(name)
    return access.rights(effective().uid).functions[name]
end

-- Restricted code acts for its own session only, and not from inside of what runs as somebody trusted.
local is_foreign = access.is_foreign
local function refuse()
    return error('a function of a restricted session does nothing for others', 0)
end

local function guarded(func)
    return function(...)
        if is_foreign() then
            return refuse()
        end
        return func(...)
    end
end

local function find_global(name)
    local found = globals
    for word in gmatch(name, '[^.]+') do
        if type(found) ~= 'table' then
            return nil
        end
        found = found[word]
    end
    return found
end

local function call_granted(name, ...)
    local as = granted(name)
    if as == nil then
        return deny('Execute', 'function', name)
    end
    local func = find_global(name)
    if type(func) ~= 'function' then
        return internal.raise('NO_SUCH_PROC', name)
    end
    local who = as or effective()
    -- What it caught itself is not the caller's to see: it has a last error of its own.
    return results(task.protected(access.run_as, {uid = who.uid, user = who.user, trusted = true, diag = {}}, func,
                                  all_copied({}, select('#', ...), ...)))
end

internal.call_granted = call_granted

-- Refuses a function that was not granted.
function internal.need_grant(name)
    if granted(name) == nil then
        return deny('Execute', 'function', name)
    end
end

-- Library --------------------------------------------------------------------------------------------------------------

local library = {
    string = {'byte', 'char', 'endswith', 'find', 'format', 'fromhex', 'gmatch', 'gsub', 'hex', 'len', 'ljust', 'lower',
              'lstrip', 'match', 'rep', 'reverse', 'rjust', 'center', 'rstrip', 'split', 'startswith', 'strip', 'sub',
              'upper'},
    table = {'concat', 'copy', 'deepcopy', 'insert', 'maxn', 'move', 'new', 'remove', 'sort'},
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
                           'tostring', 'unpack', 'xpcall', '_VERSION'}) do
    basic[name] = globals[name]
end
local plain_next, plain_ipairs, plain_unpack, plain_concat = basic.next, basic.ipairs, basic.unpack, library.table.concat
local plain_pairs, load_string, load_pieces = basic.pairs, globals.loadstring, globals.load

function basic.type(...)
    if is_view((...)) then
        return type(targets[(...)][1])
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

-- A list of its own, of what a view shows.
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

-- Tables that cannot be changed, by what reads or writes them raw neither.
local fixed = setmetatable({}, {__mode = 'k'})
local function is_fixed(value)
    return is_view(value) or type(value) == 'table' and fixed[value] ~= nil
end
for _, name in raw.ipairs({'insert', 'remove', 'sort', 'move'}) do
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
        return error("bad argument #1 to 'rawset' (table expected, got " .. type(list) .. ')', 2)
    elseif key == nil or key ~= key then
        return error('table index is nil', 2)
    end
    return rawset(list, key, value)
end

-- Metatables that restricted code sets. What is set in truth is a shadow of it, in which each metamethod that is a function
-- goes through a door: in restricted code it is called, for others the value is plain data. So no code of a restricted
-- session runs, and sees its arguments, where somebody else prints, compares, indexes or formats what the session has made.
-- The shadow is made anew whenever the metatable is set.
local EVENTS = {'__index', '__newindex', '__call', '__tostring', '__serialize', '__copy', '__eq', '__lt', '__le', '__concat',
                '__add', '__sub', '__mul', '__div', '__mod', '__pow', '__unm', '__len', '__mode', '__metatable'}
-- What others get in the place of a metamethod; all other operations are refused.
local PLAIN = {
    __index = function() end,
    __newindex = function(...) rawset(...) end,
    __tostring = function() return 'table' end,
    __serialize = function(value) return value end,
    __copy = function(value)
        local copy = {}
        for key, item in next, value do
            copy[key] = item
        end
        return copy
    end,
    __eq = function() return false end,
}
-- The keys under which a shadow has the metatable that it is of, and what it was made of: events and their values.
local ORIGINAL, SOURCES = {}, {}
-- Metatable -> shadow; event -> function -> door. Nothing in them keeps anything alive.
local shadows, doors = setmetatable({}, {__mode = 'kv'}), {}
for index = 1, #EVENTS do
    doors[EVENTS[index]] = setmetatable({}, {__mode = 'kv'})
end

-- One door for each function, since two values are compared only by a metamethod that they share.
local function door(event, func)
    local known = doors[event][func]
    if known then
        return known
    end
    local plain = PLAIN[event] or refuse
    local function made(...)
        if is_foreign() then
            return plain(...)
        end
        return func(...)
    end
    return task.first(doors[event], func, made)
end

local function shadow_of(meta)
    local shadow = shadows[meta]
    if not shadow then
        shadow = {[ORIGINAL] = meta, [SOURCES] = {}}
        shadows[meta] = shadow
    end
    local sources = shadow[SOURCES]
    for event, value in next, meta do
        if doors[event] and not rawequal(sources[event], value) then
            sources[event] = value
            shadow[event] = type(value) == 'function' and door(event, value) or value
        end
    end
    for event in next, sources do
        if rawget(meta, event) == nil then
            sources[event], shadow[event] = nil, nil
        end
    end
    return shadow
end

-- The metatable that restricted code has set; others are shared.
local function own_meta(value)
    local shadow = type(value) == 'table' and getmetatable(value)
    return shadow and rawget(shadow, ORIGINAL)
end

function basic.getmetatable(value)
    local meta = own_meta(value)
    local shown = meta and rawget(meta, '__metatable')
    if shown ~= nil then
        return shown
    end
    return meta or nil
end

function basic.setmetatable(value, meta)
    if is_view(value) then
        return no_write()
    elseif type(value) ~= 'table' then
        return error("bad argument #1 to 'setmetatable' (table expected, got " .. type(value) .. ')', 2)
    elseif meta ~= nil and type(meta) ~= 'table' then
        return error("bad argument #2 to 'setmetatable' (nil or table expected)", 2)
    end
    local old = getmetatable(value)
    if old and (not rawget(old, ORIGINAL) or rawget(old, '__metatable') ~= nil) then
        return error('cannot change a protected metatable', 2)
    end
    return setmetatable(value, meta and shadow_of(meta))
end

-- The methods of strings: for restricted code, those of the library as it was. From the first environment on.
local string_meta = getmetatable('')
local strings = globals.string
local methods = {}
for name, func in next, library.string do
    methods[name] = func
end
local environments = setmetatable({}, {__mode = 'k'})
local BUILTIN = '=builtin/'

-- A function of C (gsub, which looks into a table) or of this package (table.move, box.error.new) may be anybody's tool:
-- whoever called it decides, and the library as it was is for who cannot be seen any more, behind a tail call.
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

-- Modules that require() gives: what reads or computes, nothing that is set for all.
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
for _, name in raw.ipairs({'create', 'wrap'}) do
    library.coroutine[name] = guarded(library.coroutine[name])
end
local modules = {
    fiber = module('fiber', {'sleep', 'yield', 'time', 'time64', 'clock', 'clock64'}),
    json = module('json', {'encode', 'decode'}, true),
    yaml = module('yaml', {'encode', 'decode'}, true),
    uuid = module('uuid', {'new', 'str', 'fromstr', 'bin', 'frombin', 'is_uuid'}),
    clock = module('clock', {'time', 'realtime', 'monotonic', 'time64', 'realtime64', 'monotonic64'}),
}


-- The library as restricted code finds it ---------------------------------------------------------------------------------

local function fix(list, set)
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

local SESSION = {'id', 'exists', 'sync', 'type', 'user', 'effective_user', 'uid', 'euid', 'su', 'name'}
local plain_session, plain_error = box.session, box.error

local restricted_session = {}
for index = 1, #SESSION do
    restricted_session[SESSION[index]] = guarded(plain_session[SESSION[index]])
end
restricted_session.push = guarded(function(...)
    return plain_session.push(internal.revealed(...))
end)
for _, name in raw.ipairs({'peer', 'fd'}) do
    local func = plain_session[name]
    restricted_session[name] = guarded(function(...)
        if select('#', ...) > 0 and (...) ~= current().session.id then
            return deny('Execute', 'function', 'box.session.' .. name)
        end
        return func()
    end)
end
-- What the real tables have besides is denied by its name. (Names are taken now: later ones may be anybody's.)
local function names_of(list)
    local names = {}
    for key in next, list do
        names[key] = true
    end
    return names
end
local session_names, box_names = names_of(plain_session), names_of(box)
setmetatable(restricted_session, {__index = guarded(function(_, key)
    if key == 'storage' then
        return plain_session.storage
    elseif session_names[key] then
        return deny('Execute', 'function', 'box.session.' .. key)
    end
end)})

local restricted_error, error_functions = {}, {}
for key, value in next, plain_error do
    restricted_error[key] = value
end
for _, name in raw.ipairs({'new', 'last', 'clear', 'set', 'is'}) do
    error_functions[name] = guarded(plain_error[name])
end
setmetatable(restricted_error, {__index = error_functions, __call = guarded(function(_, ...)
    return plain_error(...)
end)})

local schema = {}
for _, kind in raw.ipairs({'user', 'role', 'func'}) do
    schema[kind] = {}
    for name, func in next, box.schema[kind] do
        schema[kind][name] = guarded(func)
    end
end

local information = {version = internal.version, package = 'boxsession', status = 'running'}
local restricted_box = setmetatable({
    NULL = NULL, schema = schema, error = restricted_error,
    info = setmetatable(information, {__call = function(front)
        return front
    end}),
}, {__index = guarded(function(_, key)
    if box_names[key] then
        return deny('Execute', 'function', 'box.' .. key)
    end
end)})

local own = {}
for name, value in next, basic do
    own[name] = value
end
for name, functions in next, library do
    own[name] = fix(functions)
end
local fixed_session = fix(restricted_session, guarded(function(_, key, value)
    if key ~= 'storage' then
        return no_write()
    end
    plain_session.storage = value
end))
own.box = fix(restricted_box)
rawset(restricted_box, 'session', fixed_session)
for name, functions in next, modules do
    modules[name] = fix(functions)
end

function own.require(name)
    local found = modules[name] or (name == 'box' or library[name]) and own[name]
    return found or deny('Execute', 'function', 'require ' .. tostring(name))
end

local in_env = guarded(function(func, ...)
    if func then
        local record = current().session
        setfenv(func, record.scope == access.STALE and access.apply(record) or record.scope)
    end
    return func, ...
end)
function own.loadstring(text, name)
    if type(text) ~= 'string' then
        return error("bad argument #1 to 'loadstring' (string expected, got " .. type(text) .. ')', 2)
    end
    return in_env(load_string(text, name))
end
function own.load(text, name)
    return in_env(load_pieces(text, name))
end

-- To the session itself: the log is not theirs to fill.
own.print = guarded(function(...)
    local pieces = {}
    for index = 1, select('#', ...) do
        pieces[index] = tostring((select(index, ...)))
    end
    plain_session.push(concat(pieces, '\t'))
end)

-- Environments ----------------------------------------------------------------------------------------------------------

local function find_granted(name)
    if granted(name) ~= nil then
        return guarded(function(...)
            return call_granted(name, ...)
        end)
    end
end

-- A prefix of granted functions' names: `a` where `a.b` was granted.
local function find_prefix(prefix)
    for name in next, access.rights(effective().uid).functions do
        if find(name, prefix .. '.', 1, true) == 1 then
            return setmetatable({}, {__metatable = false, __index = guarded(function(_, key)
                local whole = prefix .. '.' .. tostring(key)
                return find_granted(whole) or find_prefix(whole) or deny('Execute', 'function', whole)
            end), __newindex = no_write})
        end
    end
end

local function find_own(key)
    if key == 'session' and current().session.dialect == 'classic' then
        return fixed_session
    end
    return own[key]
end

-- Everybody's globals, to be looked at.
local function new_reading_scope()
    local view = wrap(globals, '_G')
    return setmetatable({}, {__metatable = false, __newindex = no_write, __index = guarded(function(_, key)
        if key == '_G' then
            return view
        end
        local value = find_own(key)
        if value ~= nil then
            return value
        end
        return type(key) == 'string' and find_granted(key) or view[key]
    end)})
end

-- A session's own globals only. Whether somebody else has one of that name is not told.
local sandbox_meta = {__metatable = false, __index = guarded(function(env, key)
    if key == '_G' then
        return env
    end
    local value = find_own(key)
    if value ~= nil or type(key) ~= 'string' then
        return value
    end
    return find_granted(key) or find_prefix(key) or deny('Execute', 'function', key)
end)}

local function nothing() end

-- What completion finds behind an environment: what find_own() and find_granted() do, and for who may read, the globals.
function internal.behind(env)
    if not environments[env] then
        return nil
    end
    local names = setmetatable({}, {__index = current().session.level == READ and globals or nil})
    for name in next, access.rights(effective().uid).functions do
        local list, last = names, nil
        for part in gmatch(name, '[^.]+') do
            if last then
                local inner = rawget(list, last)
                list[last] = type(inner) == 'table' and inner or {}
                list = list[last]
            end
            last = part
        end
        if last then
            list[last] = rawget(list, last) or nothing
        end
    end
    for name, value in next, own do
        names[name] = value
    end
    return names
end

-- The environment of a session as that user under that level, made when first needed.
function internal.sandbox(record, uid, level)
    string_meta.__index = find_method
    local scopes = record.sandboxes or task.first(record, 'sandboxes', {})
    local name = uid .. ':' .. level
    local scope = scopes[name]
    if not scope then
        scope = level == READ and new_reading_scope() or setmetatable({}, sandbox_meta)
        environments[scope] = true
        scope = task.first(scopes, name, scope)
    end
    return scope
end
