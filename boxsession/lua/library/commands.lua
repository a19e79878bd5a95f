-- The backslash commands of the console: \help, \set, \quit. Messages of \set: Tarantool 2.6.
-- Needs: library/console, library/expose
local internal, CONTROL = ...
local raw = internal.raw
local error, format, gmatch, unpack = raw.error, raw.format, raw.gmatch, raw.unpack

local sessions, cancel, kill = internal.service('sessions'), internal.service('cancel'), internal.service('kill')

local HELP = [[
A statement is Lua: an expression shows its values, anything else just runs.

  \help                          this page
  \quit                          end the session; so do ~. and Ctrl-D
  \login USER PASSWORD           go on as another user
  \sessions                      who is connected
  \complete TEXT                 the names that TEXT may become
  \cancel ID                     stop the statement that a session runs
  \kill ID                       end a session
  \set output yaml|lua[,line|,block]
                                 how values are shown
  \set delimiter TEXT            statements end with TEXT at a line's end
                                 (without TEXT: with the line)
  \set continuation auto|on|off  auto: an unfinished statement waits for
                                 more; on: after a backslash at the line's
                                 end; off: every line stands alone
  \set prompt on|off             show a prompt
  \set scope session|global      session: names without `local` are this
                                 session's own (_G has the others)
  \set print on|off              print() shows its text here, not in the log
  \set language lua              the only one there is

Ctrl-C drops a half-typed statement and cancels a running one.
With a delimiter, these commands need it, too.
Globals are seen by all sessions; box.session.storage is this one's own.
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
    if value == nil then
        return {language = 'lua'}
    end
    if value ~= 'lua' then
        return error(format('Invalid language "%s", supported languages: lua.', value), 0)
    end
    return true
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
-- Where names that are not local live: with all sessions' (global), or in a table of this session's own.
function set.scope(session, value)
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
    output = set.output, o = set.output,
    language = set.language, lang = set.language, l = set.language,
    delimiter = set.delimiter, delim = set.delimiter, d = set.delimiter,
    continuation = set.continuation, c = set.continuation,
    prompt = set.prompt, p = set.prompt,
    scope = set.scope, print = set.print,
}

local commands = {}

function commands.help()
    return {HELP}
end

function commands.set(session, name, value)
    if name == nil then
        return error('Invalid set syntax, type \\help for help', 0)
    end
    local parameter = PARAMETERS[name]
    if parameter == nil then
        return error('Unknown parameter: ' .. name, 0)
    end
    return parameter(session, value)
end

function commands.sessions()
    internal.access.need_full('box.session.list')
    return sessions({})
end

local function id_argument(name, value)
    if raw.tonumber(value) == nil then
        return error(format('Usage: \\%s ID', name), 0)
    end
    return raw.tonumber(value)
end

function commands.cancel(_, id)
    internal.access.need_full('box.session.cancel')
    return cancel(id_argument('cancel', id))
end

function commands.kill(_, id)
    internal.access.need_full('box.session.kill')
    return kill(id_argument('kill', id))
end

-- The password is the rest of the line, whatever is in it.
function commands.login(line)
    local user, password = raw.match(line, '^%s*login%s+(%S+)%s(.*)$')
    if not user then
        return error('Usage: \\login USER PASSWORD', 0)
    end
    return internal.access.login(user, password)
end

function commands.complete(_, text)
    return internal.complete(text or '')
end

function commands.quit()
    local _ = CONTROL['quit']
end

local COMMANDS = {help = commands.help, h = commands.help, set = commands.set,
                  s = commands.set, quit = commands.quit, q = commands.quit, sessions = commands.sessions,
                  cancel = commands.cancel, complete = commands.complete, kill = commands.kill}

-- Runs a command line (without its backslash) for a session; returns the values to show, raises what is wrong.
function internal.command(session, line)
    local words, count = {}, 0
    for word in gmatch(line, '%S+') do
        count = count + 1
        words[count] = word
    end
    if count == 0 then
        return commands.help()
    end
    if words[1] == 'login' then
        return commands.login(line)
    end
    local command = COMMANDS[words[1]]
    if command == nil then
        return error('Invalid command \\' .. line .. '. Type \\help for help.', 0)
    end
    return command(session, unpack(words, 2, count))
end
