-- The sandbox: the environment in which a user without execute on universe evaluates code. Each session has its own. It
-- holds only harmless functions, the session's own globals, and the granted functions. For a user with read on universe it
-- also shows the shared globals, and refuses writes.
--
-- Invariant: a function that acts under its caller's identity refuses in other users' code (guarded()): such code can
-- find a restricted session's function in a storage. The rest of the protection is in library.lua, views.lua, granted.lua
-- and shadows.lua.
-- Needs: library/console, library/errors, library/inspect, library/inspect_log, library/inspect_memory
-- Needs: library/inspect_profile, library/inspect_tail, library/inspect_watch, library/log, library/msgpack, library/schema, library/sessions
-- Needs: library/triggers, rights/library
local internal = ...
local raw, task, access, exposed = internal.raw, internal.task, internal.access, internal.exposed
local error, getmetatable, next, rawequal, rawget, rawset, select, setfenv, setmetatable, tostring, type =
    raw.error, raw.debug_getmetatable, raw.next, raw.rawequal, raw.rawget, raw.rawset, raw.select, raw.setfenv, raw.setmetatable,
    raw.tostring, raw.type
local gmatch, concat, find = raw.gmatch, raw.concat, raw.find
local NULL = internal.NULL
local current, deny, effective = task.current, access.deny, access.effective
local READ = access.READ
local globals, box = _G, _G.box
local load_string, load_pieces = globals.loadstring, globals.load
local wrap, no_write = internal.views.wrap, internal.views.no_write
local granted, guarded, call_granted = internal.granted.granted, internal.granted.guarded, internal.call_granted
local harmless = internal.harmless
local basic, library, modules, fix, environments = harmless.basic, harmless.library, harmless.modules, harmless.fix,
    harmless.environments
local string_meta, find_method = getmetatable(''), harmless.find_method

local SESSION = {'id', 'exists', 'sync', 'type', 'user', 'effective_user', 'uid', 'euid', 'su', 'name'}
local plain_session, plain_error = box.session, box.error

local restricted_session = {}
for index = 1, #SESSION do
    restricted_session[SESSION[index]] = guarded(plain_session[SESSION[index]])
end
restricted_session.push = guarded(function(...)
    return plain_session.push(internal.revealed(...))
end)
for _, name in raw.ipairs({'peer', 'fd', 'peer_uid', 'peer_pid'}) do
    local func = plain_session[name]
    restricted_session[name] = guarded(function(...)
        if select('#', ...) > 0 and (...) ~= current().session.id then
            return deny('Execute', 'function', 'box.session.' .. name)
        end
        return func()
    end)
end
-- Other fields of the real tables are denied by name. (The names are taken now: users may add some later.)
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

for name, value in next, box.schema do
    if type(value) == 'number' then
        schema[name] = value
    end
end

local inspect = {}
for name, func in next, box.inspect do
    inspect[name] = guarded(func)
end

local information = {version = internal.version, package = 'boxsession', status = 'running'}
local restricted_box = setmetatable({
    NULL = NULL, schema = schema, inspect = inspect, error = restricted_error,
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
for name, found in next, modules do
    modules[name] = type(found) == 'table' and fix(found) or found
end
own.utf8 = modules.utf8

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
function own.dostring(text, ...)
    local func, problem
    if type(text) == 'function' then
        func, problem = in_env(load_pieces(text))
    else
        func, problem = in_env(load_string(text))
    end
    if not func then
        return error(problem, 0)
    end
    return func(...)
end

own.help = guarded(function(what)
    return internal.help(what)
end)

-- print() writes to the session itself, since restricted code must not fill the log.
own.print = guarded(function(...)
    local pieces = {}
    for index = 1, select('#', ...) do
        pieces[index] = tostring((select(index, ...)))
    end
    plain_session.push(concat(pieces, '\t'))
end)

-- Environments ----------------------------------------------------------------------------------------------------------

-- What objects of library/exposed.lua need for a restricted session.
local for_exposed = {check = guarded(function(name)
    if granted(name) == nil then
        return deny('Execute', 'function', name)
    end
end), call = guarded(function(root, name, func, ...)
    return internal.call_granted_part(root, name, func, ...)
end)}

-- A granted function or exposed object. `owner`: the table that shows it, for owner:key(...), and the name of its own.
local function find_granted(name, owner, prefix, key)
    if granted(name) ~= nil then
        local object = exposed.value(name)
        if exposed.is_object(object) then
            return exposed.sandboxed(object, for_exposed)
        end
        return guarded(function(...)
            if owner and rawequal((...), owner) then
                return internal.call_granted_method(prefix, key, select(2, ...))
            end
            return call_granted(name, ...)
        end)
    end
end

-- A table for a prefix of granted names: `a` if `a.b` is granted. `behind`: a view of the real table, if it may be read.
local function find_prefix(prefix, behind)
    for name in next, access.rights(effective().uid).functions do
        if find(name, prefix .. '.', 1, true) == 1 then
            local owner = {}
            return setmetatable(owner, {__metatable = false, __index = guarded(function(_, key)
                key = tostring(key)
                local whole = prefix .. '.' .. key
                local inner = behind and behind[key]
                return find_granted(whole, owner, prefix, key) or find_prefix(whole, inner) or inner
                    or deny('Execute', 'function', whole)
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

-- An environment that shows the shared globals read-only.
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
        value = view[key]
        return type(key) == 'string' and (find_granted(key) or find_prefix(key, value)) or value
    end)})
end

-- An environment with the session's own globals only. A denial does not tell whether a shared global of that name exists.
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

-- The names that completion finds beyond an environment's own fields: those of find_own() and find_granted(), and with read
-- on universe the shared globals. Returns nil for other environments.
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
            list[last] = rawget(list, last) or list == names and exposed.value(last) or nothing
        end
    end
    for name, value in next, own do
        names[name] = value
    end
    return names
end

-- The environment of a session for a user and level. It is made when first needed.
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
