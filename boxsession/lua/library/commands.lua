-- The backslash commands of the console: built-in ones, and those of the embedding program. Messages of \set: Tarantool
-- 2.6.
-- Needs: library/alike, library/calls, library/console, library/inspect, library/inspect_log
-- Needs: library/inspect_loop, library/inspect_memory, library/inspect_tail, library/inspect_profile, library/inspect_watch
-- Needs: library/python, rights/access
local internal, CONTROL, packed_commands = ...
local raw = internal.raw
local co_yield, concat, error, format, gmatch, gsub, match, rep, sub, type = raw.co_yield, raw.concat, raw.error, raw.format,
    raw.gmatch, raw.gsub, raw.match, raw.rep, raw.sub, raw.type
local call_python, may_command = internal.call_python, internal.access.may_command

local sessions, cancel, kill, traceback, languages = internal.service('sessions'), internal.service('cancel'),
    internal.service('kill'), internal.service('traceback'), internal.service('languages')

local INTRODUCTION = 'A statement is Lua: an expression shows its values, anything else just runs.\n\n'
local OF_THE_PROGRAM = '\nCommands of this program:\n\n'
local NAMES_OF_THE_PROGRAM = '\nNames that this program exposes (\\help NAME shows more):\n\n'
local CLOSING = [[

Ctrl-C drops a half-typed statement and cancels a running one.
If a delimiter is set, end these commands with it as well.
All sessions share the globals; box.session.storage belongs to this session.
]]

local set = {}

function set.output(session, value)
    if value == nil then
        return error('Specify output format: lua or yaml.', 0)
    end
    session.output = internal.parse_output(value)
    return true
end

function set.language(_, value)
    local found = languages()
    if value == nil then
        return {language = found.language}
    end
    local allowed = found.languages
    for index = 1, #allowed do
        if allowed[index] == value then
            internal.access.need_language(value)
            local _ = CONTROL['language=' .. value]
            return true
        end
    end
    return error(format('Invalid language "%s", supported languages: %s.', value, concat(allowed, ', ')), 0)
end

function set.delimiter(_, value)
    return internal.delimiter(value or '')
end

local function choice(name, ...)
    local known = {...}
    local listed = raw.concat(known, ', ')
    return function(_, value)
        for index = 1, #known do
            if known[index] == value then
                local _ = CONTROL[name .. '=' .. value]
                return true
            end
        end
        return error(format('Specify %s: %s.', name, listed), 0)
    end
end
-- Where non-local names are kept: in the globals of all sessions, or in this session's own table.
function set.scope(session, value)
    if languages().language == 'python' and internal.python.scope(value) then
        return true
    end
    if value == 'session' then
        internal.access.need_full('\\set scope')
        session.own_scope = session.own_scope or internal.new_scope()
        session.chosen_scope = session.own_scope
    elseif value == 'global' then
        session.chosen_scope = false
    else
        return error('Specify scope: session, global.', 0)
    end
    if session.level == internal.access.FULL then
        session.scope = session.chosen_scope
    end
    return true
end

-- Whether print() writes to this session instead of the log.
function set.print(session, value)
    if value ~= 'on' and value ~= 'off' then
        return error('Specify print: on, off.', 0)
    end
    session.prints = value == 'on'
    return true
end

set.continuation = choice('continuation', 'auto', 'on', 'off')
set.prompt = choice('prompt', 'on', 'off')

local PARAMETERS = {
    output = set.output, o = set.output, language = set.language, lang = set.language, l = set.language,
    delimiter = set.delimiter, delim = set.delimiter, d = set.delimiter,
    continuation = set.continuation, c = set.continuation,
    prompt = set.prompt, p = set.prompt, scope = set.scope, print = set.print, python = internal.python.mode,
}

-- Functions of the built-in commands by name. Arguments: the session, the first two words after the name, the rest of the
-- line after the name.
local run = {}

function run.set(session, name, value)
    if name == nil then
        return error('Invalid set syntax, type \\help for help', 0)
    end
    local parameter = PARAMETERS[name]
    if parameter == nil then
        return error('Unknown parameter: ' .. name, 0)
    end
    return parameter(session, value)
end

function run.sessions()
    return sessions({})
end

-- The last exception of an exposed function: in this session, or for users with full rights in any.
function run.traceback(_, id)
    if id ~= nil then
        id = raw.tonumber(id)
        if id == nil then
            return error('Usage: \\traceback [ID]', 0)
        end
        internal.access.need_full('\\traceback')
    end
    local text = traceback(id)
    if text == '' then
        return error('no function of the program has raised an exception in this session', 0)
    end
    return {text}
end

local function id_argument(name, value)
    if raw.tonumber(value) == nil then
        return error(format('Usage: \\%s ID', name), 0)
    end
    return raw.tonumber(value)
end

function run.cancel(_, id)
    return cancel(id_argument('cancel', id))
end

function run.kill(_, id)
    return kill(id_argument('kill', id))
end

-- The password is all of the line after the user, spaces included. That of guest is empty.
function run.login(_, _, _, rest)
    local user, password = match(rest, '^(%S+)%s(.*)$')
    if rest == 'guest' then
        user, password = rest, ''
    end
    if not user then
        return error('Usage: \\login USER PASSWORD', 0)
    end
    return internal.access.login(user, password)
end

function run.complete(_, text, _, rest)
    if languages().language == 'python' and sub(rest or '', 1, 1) ~= '\\' then
        return internal.python.complete(rest or '')
    end
    return internal.complete(text or '')
end

function run.quit()
    local _ = CONTROL['quit']
end

for name, func in raw.next, internal.inspection.commands do
    run[name] = func
end
run.show = internal.python.show

-- The table (lua/commands.py) ------------------------------------------------------------------------------------------

local built_in, of_program = internal.packed.value(packed_commands), {}
local by_name = {}      -- and by alias

local function index(list, names)
    for at = 1, #list do
        local command = list[at]
        names[command.name] = command
        for alias = 1, #command.aliases do
            names[command.aliases[alias]] = command
        end
    end
    return names
end
index(built_in, by_name)

local function may(command)
    return may_command(command.name, command.access)
end

local function need(command)
    if not may(command) then
        return internal.access.deny('Execute', 'command', command.name)
    end
end

-- Python sends the program's commands here, whenever they change. No task runs meanwhile.
function internal.take_commands()
    local packed = co_yield('')
    while true do
        local list = internal.packed.value(packed)
        by_name = index(list, index(built_in, {}))
        of_program = list
        packed = co_yield('')
    end
end

-- Names (with a backslash) of commands that begin with `text` and that the caller may run.
function internal.command_names(text)
    local found = {}
    for _, list in raw.ipairs({built_in, of_program}) do
        for at = 1, #list do
            local command = list[at]
            if sub(command.name, 1, #text) == text and may(command) then
                found[#found + 1] = '\\' .. command.name
            end
        end
    end
    return found
end

-- Help ----------------------------------------------------------------------------------------------------------------

-- Column at which the help of a form begins, and its width.
local COLUMN, WIDTH = 33, 43

-- Writes a form (a way to call a command) and, beside it, its help.
local function describe(out, name, usage, help)
    local line = '  \\' .. name .. (usage ~= '' and ' ' .. usage or '')
    local at = #line
    if at > COLUMN - 2 then
        out[#out + 1] = line .. '\n'
        line, at = '', 0
    end
    local used = 0
    for word in gmatch(help, '%S+') do
        if used > 0 and used + 1 + #word > WIDTH then
            out[#out + 1] = line .. '\n'
            line, at, used = '', 0, 0
        end
        if used == 0 then
            line, used = line .. rep(' ', COLUMN - at) .. word, #word
        else
            line, used = line .. ' ' .. word, used + 1 + #word
        end
    end
    if line ~= '' then
        out[#out + 1] = line .. '\n'
    end
end

local function describe_command(out, command)
    for at = 1, #command.forms do
        local form = command.forms[at]
        describe(out, command.name, form[1], form[2])
    end
end

local function list_all(out, list, title)
    for at = 1, #list do
        if may(list[at]) then
            out[#out + 1], title = title, ''
            describe_command(out, list[at])
        end
    end
end

-- The help on an exposed name that the caller may use; nil for others.
local function help_on_exposed(name)
    local granted = internal.granted.granted(gsub(name, ':', '.') .. '') ~= nil
    return (granted or may_command('', 'execute')) and internal.exposed.help(name) or nil
end

-- The exposed names that the caller may use, in lines.
local function list_exposed(out)
    local names = internal.exposed.names()
    local line = ''
    for at = 1, #names do
        if help_on_exposed(names[at]) then
            if line == '' then
                out[#out + 1] = NAMES_OF_THE_PROGRAM
            elseif #line + #names[at] + 2 > COLUMN + WIDTH then
                out[#out + 1] = line .. ',\n'
                line = ''
            end
            line = line .. (line == '' and '  ' or ', ') .. names[at]
        end
    end
    if line ~= '' then
        out[#out + 1] = line .. '\n'
    end
end

-- The error for a name without help: it tells the names that may be meant, and where to look.
local function unknown(name)
    name = match(name, '^\\?(.*)$')
    local known, has_names = {}, false
    for _, list in raw.ipairs({built_in, of_program}) do
        for at = 1, #list do
            known[#known + 1] = may(list[at]) and '\\' .. list[at].name or nil
        end
    end
    for exposed in raw.next, internal.exposed.lines() do
        if help_on_exposed(exposed) then
            known[#known + 1], has_names = exposed, true
        end
    end
    local found = internal.alike(name, known)
    return 'There is no command \\' .. name .. (has_names and ', and the program exposes no such name. ' or '. ')
        .. (found ~= '' and 'Perhaps you mean ' .. found .. '. ' or '')
        .. (has_names and 'Type \\help for the commands and names.' or 'Type \\help for help.')
end

-- Help on one command or exposed name, or on all commands that the caller may run.
function run.help(_, name)
    local out = {}
    if name == nil then
        local in_python = languages().language == 'python'
        list_all(out, built_in, in_python and internal.python.INTRODUCTION or INTRODUCTION)
        list_all(out, of_program, OF_THE_PROGRAM)
        list_exposed(out)
        out[#out + 1] = in_python and internal.python.closing() or CLOSING
    else
        local command, about = by_name[match(name, '^\\?(.*)$')], help_on_exposed(name)
        if not command and not about then
            return error(unknown(name), 0)
        end
        if command and not (about and not may(command)) then
            need(command)
            describe_command(out, command)
            if #command.aliases > 0 then
                out[#out + 1] = '\nAlso: \\' .. concat(command.aliases, ', \\') .. '\n'
            end
            if command.details ~= '' then
                out[#out + 1] = '\n' .. command.details .. '\n'
            end
        end
        if about then
            out[#out + 1] = (#out > 0 and '\n' or '') .. about
        end
    end
    return {concat(out)}
end

-- help(NAME), help(FUNCTION) and help(). compat: Tarantool's help() has no argument.
function internal.help(what)
    if what ~= nil and type(what) ~= 'string' then
        what = internal.exposed.name_of(what)
        if not what then
            return error('help(): expected a name in quotes, or a function or object that the program exposes', 0)
        end
    end
    return run.help(nil, what)
end
_G.help = raw.setmetatable({}, {
    __call = function(_, what)
        return internal.help(what)
    end,
    __serialize = function()
        return internal.help()
    end,
})

-- Dispatch ------------------------------------------------------------------------------------------------------------

for at = 1, #built_in do
    local name = built_in[at].name
    built_in[at].run = run[name] or error('no function is defined for the command ' .. name)
end

-- Runs a command line (without its backslash) for a session. Returns the values to show; raises errors of the user.
function internal.command(session, line)
    local name, rest = match(line, '^%s*(%S+)%s*(.*)$')
    local command = by_name[name or 'help']
    if command == nil then
        return error('Invalid command \\' .. line .. '. Type \\help for help.', 0)
    end
    need(command)
    if command.call then
        return call_python(command.call .. ':', rest)
    end
    local words = gmatch(rest or '', '%S+')
    return command.run(session, words(), words(), rest)
end
