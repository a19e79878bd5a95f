-- The module console: settings of the session's console, listeners, remote consoles, hooks and completion. Messages:
-- Tarantool 2.6.
-- Needs: kernel/objects, library/box, library/calls, library/modules, wire/format
local internal, DELIMITER, FORMAT = ...
local raw, task, output = internal.raw, internal.task, internal.output
local error, find, match, next, sub, type = raw.error, raw.find, raw.match, raw.next,
    raw.sub, raw.type
local getmetatable, rawequal, rawget = raw.debug_getmetatable, raw.rawequal, raw.rawget

local console = {}
internal.modules.console = console
local globals = _G

local function own_session(name)
    local session = task.current().session
    if session.type ~= 'console' then
        return error('console.' .. name .. '(): need existing console', 0)
    end
    return session
end

-- Reads or sets the delimiter that ends this session's statements; '' for the end of the line.
local function delimiter(text)
    local session = own_session('delimiter')
    if text == nil then
        return session.delimiter
    end
    if type(text) ~= 'string' or find(text, '[\r\n]') then
        return error('invalid delimiter', 0)
    end
    session.delimiter = text
    local _ = DELIMITER[text]
end
console.delimiter, internal.delimiter = delimiter, delimiter

-- Output --------------------------------------------------------------------------------------------------------------

-- Parses 'yaml', 'lua', 'lua,line' or 'lua,block'. Returns the mode for output.reply() and the option.
local function parse_output(value)
    local name, option = match(value, '^([^,]+),([^,]+)')
    name = name or value
    if name ~= 'yaml' and name ~= 'lua' then
        return error('Invalid format "' .. value .. '", supported languages: lua and yaml.', 0)
    end
    if name == 'lua' and option and option ~= 'line' and option ~= 'block' then
        return error('Wrong option "' .. option .. '", expecting: line or block.', 0)
    end
    return name == 'yaml' and 'yaml' or option or 'line', name == 'lua' and option or nil
end
internal.parse_output = parse_output

local default = {mode = 'yaml', shown = {fmt = 'yaml'}}

-- The output mode of new sessions.
function internal.default_output()
    return default.mode
end

function console.get_default_output()
    return {fmt = default.shown.fmt, opts = default.shown.opts}
end

function console.set_default_output(value)
    if value == nil then
        return error('Nil output value passed', 0)
    end
    local mode, option = parse_output(raw.tostring(value))
    default = {mode = mode, shown = {fmt = mode == 'yaml' and 'yaml' or 'lua', opts = option}}
end

-- Reads or sets the text that ends this session's replies. Only Lua output lets users choose it.
function console.eos(text)
    local session = own_session('eos')
    if session.output == 'yaml' then
        if text ~= nil then
            return error('console.eos(): is immutable for output yaml', 0)
        end
        return '\n...\n'
    end
    if text == nil then
        return session.eos
    end
    if type(text) ~= 'string' then
        return error('console.eos(): expected a string', 0)
    end
    session.eos = text
end

-- Scope ---------------------------------------------------------------------------------------------------------------

-- The initial names of a session's own scope: modules that every admin needs.
local function default_env()
    local env = {}
    for _, name in raw.ipairs({'clock', 'fiber', 'json', 'log', 'uuid', 'yaml'}) do
        env[name] = internal.modules[name]
    end
    return env
end
local initial_env

-- Returns the table itself: users can add names for new scopes.
function console.initial_env()
    if initial_env then
        return initial_env
    end
    local env = default_env()
    task.lock()
    -- Another task may have set it meanwhile.
    env = initial_env or env
    initial_env = env
    task.unlock()
    return env
end

-- Replaces the table; without an argument, restores the default.
function console.set_initial_env(env)
    if env ~= nil and type(env) ~= 'table' then
        return error('Usage: console.set_initial_env(env)', 0)
    end
    initial_env = env
end

-- Makes a session's own scope, on top of the globals.
function internal.new_scope()
    local scope = {}
    for key, value in next, console.initial_env() do
        scope[key] = value
    end
    return raw.setmetatable(scope, {__index = globals})
end

-- Hooks, and functions without effect here ----------------------------------------------------------------------------

local hooks = {}

local function hook(name)
    return function(func)
        if func ~= nil and type(func) ~= 'function' then
            return error('Wrong type of ' .. name .. ' hook: ' .. type(func), 0)
        end
        hooks[name] = func
    end
end
console.on_start = hook('on_start')
console.on_client_disconnect = hook('on_client_disconnect')

-- Runs the on_start hook of a new session. User code.
function internal.run_on_start()
    local on_start = hooks.on_start
    if on_start then
        internal.access.run_trigger(on_start, {delimiter = '', running = true})
    end
end

-- Runs the hook of a session that returns from another console. User code.
function internal.run_on_client_disconnect()
    local on_client_disconnect = hooks.on_client_disconnect
    if on_client_disconnect then
        internal.access.run_trigger(on_client_disconnect, {delimiter = '', running = true})
    end
end

-- Accepted without effect: the client switches its completion itself.
function console.ac()
    own_session('ac')
end

function console.start()
    return error('console.start(): there is no terminal here, only sessions of clients', 0)
end

-- Sends this session's statements to another text console, until `~.` or the end of that connection.
local connect = internal.service('connect')
function console.connect(uri, options)
    if options ~= nil and type(options) ~= 'table' then
        return error('console.connect(): options must be a table, as in {timeout = 1}', 0)
    end
    local timeout = options and options.timeout
    if timeout ~= nil and (type(timeout) ~= 'number' or timeout < 0 or timeout ~= timeout) then
        return error('console.connect(): timeout must be a number of seconds', 0)
    end
    if type(uri) ~= 'string' and type(uri) ~= 'number' then
        return error('Usage: console.connect("[login:password@][host:]port")', 0)
    end
    own_session('connect')
    return connect(uri, timeout)
end

-- Listeners -----------------------------------------------------------------------------------------------------------

local listen, close_listener = internal.service('listen'), internal.service('close_listener')
local listener, listener_meta, make_listener, listener_of = internal.class('listener')

-- Listens on one more address; its sessions get this session's dialect and user. Returns an object that has the methods of a
-- listening socket that make sense here.
function console.listen(uri)
    if type(uri) ~= 'string' and type(uri) ~= 'number' then
        return error('Usage: console.listen("[host:]port")', 0)
    end
    return make_listener(listen(uri))
end

local function open_listener(...)
    if getmetatable((...)) ~= listener_meta then
        return error('Usage: socket:method()', 0)
    end
    local state = listener_of((...))
    if state.closed then
        return error('attempt to use closed socket', 0)
    end
    return state
end

-- Stops listening. Its sessions continue.
function listener.shutdown(...)
    close_listener(open_listener(...).number)
    return true
end

-- The same; then the object cannot be used any more.
function listener.close(...)
    local state = open_listener(...)
    state.closed = true
    close_listener(state.number)
    return true
end

function listener.name(...)
    local copy = {}
    for key, value in next, open_listener(...).name do
        copy[key] = value
    end
    return copy
end

function listener_meta.__serialize(object)
    local state = listener_of(object)
    return {fd = not state.closed and state.fd or nil, name = state.name, closed = state.closed}
end

function listener_meta.__tostring(object)
    local state = open_listener(object)
    return 'fd ' .. state.fd .. ', aka ' .. state.name.host .. ':' .. state.name.port
end

-- Evaluates a statement and returns its reply as text, in this session's output mode.
function console.eval(text)
    if text == nil then
        return nil
    end
    if type(text) ~= 'string' then
        return error('Usage: console.eval(statement)', 0)
    end
    local reply = internal.reply_to(text)
    if raw.byte(reply, 1) < 32 then
        reply = task.text(FORMAT, reply)
    end
    return reply
end

-- Completion ----------------------------------------------------------------------------------------------------------

local KEYWORDS = {'and', 'break', 'do', 'else', 'elseif', 'end', 'false', 'for', 'function', 'if', 'in', 'local', 'nil',
                  'not', 'or', 'repeat', 'return', 'then', 'true', 'until', 'while'}
-- Limits: items looked at in one table, length of a chain of metatables (which can be a loop), length of a name.
local ITEMS_MAX, CHAIN_MAX, NAME_MAX = 500, 20, 1000

local function parent_of(value)
    local behind = internal.behind(value)
    if behind then
        return behind
    end
    local meta = getmetatable(value)
    local index = type(meta) == 'table' and rawget(meta, '__index')
    return index or nil
end

-- The table of an exposed object, which is not live data; otherwise the value.
local function table_of(value)
    return internal.exposed.is_object(value) and internal.exposed.data(value) or value
end

-- A field, found without running user code: by rawget, and by __index if it is a table.
local function field(value, key)
    value = table_of(value)
    for _ = 1, CHAIN_MAX do
        if type(value) == 'table' then
            local found = rawget(value, key)
            if found ~= nil then
                return found
            end
        end
        value = parent_of(value)
        if value == nil then
            return nil
        end
    end
end

-- The names found, with their longest common prefix as first item; nil if there are none.
local function with_common(found)
    if #found == 0 then
        return
    end
    local common = found[1]
    for index = 2, #found do
        while sub(found[index], 1, #common) ~= common do
            common = sub(common, 1, -2)
        end
    end
    raw.insert(found, 1, common)
    return found
end

-- Completes `text` with names that this session finds; after a backslash, with commands. Returns as with_common() does.
local function complete(text)
    if sub(text, 1, 1) == '\\' then
        return with_common(internal.command_names(sub(text, 2)))
    end
    if not find(text, '^[%a_]') and text ~= '' then
        return
    end
    local scope = task.current().session.scope
    local container, head, is_method = scope or globals, '', false
    while true do
        local name, mark, rest = match(text, '^([^.:]*)([.:])(.*)$')
        if not name then
            break
        end
        container = field(container, name)
        if container == nil then
            return
        end
        head, text, is_method = head .. name .. mark, rest, mark == ':'
    end
    local found = {}
    if head == '' and text ~= '' then
        for index = 1, #KEYWORDS do
            if sub(KEYWORDS[index], 1, #text) == text then
                found[#found + 1] = KEYWORDS[index] .. ' '
            end
        end
    end
    container = table_of(container)
    local looked, link = 0, 0
    while container ~= nil and link < CHAIN_MAX do
        if type(container) == 'table' and (link == 0 or head == '' or not rawequal(container, globals)) then
            for key, value in next, container do
                looked = looked + 1
                if looked > ITEMS_MAX then
                    break
                end
                if type(key) == 'string' and #key <= NAME_MAX and sub(key, 1, #text) == text
                   and find(key, '^[%a_][%w_]*$') and (sub(key, 1, 1) ~= '_' or sub(text, 1, 1) == '_') then
                    local is_function = type(value) == 'function'
                    if is_function or not is_method then
                        found[#found + 1] = head .. key .. (is_function and '(' or '')
                    end
                end
            end
        end
        container = parent_of(container)
        link = link + 1
    end
    return with_common(found)
end
internal.complete = complete

-- The same, with Tarantool's arguments: `from` and `to` are positions in the line; only their distance is used.
function console.completion_handler(text, from, to)
    if type(text) ~= 'string' or type(from) ~= 'number' or type(to) ~= 'number' then
        return error('Usage: console.completion_handler(text, start, end)', 0)
    end
    return complete(sub(text, 1, to - from))
end
