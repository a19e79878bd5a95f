-- Commands for sessions whose statements are in Python.
-- Needs: library/calls, rights/access
local internal = ...
local raw = internal.raw
local error, tonumber, type = raw.error, raw.tonumber, raw.type
local show, scope = internal.service('show'), internal.service('python_scope')
local complete, mode = internal.service('python_complete'), internal.service('python_mode')
local listed = internal.service('python_names')

local CLOSING = [[

Ctrl-C drops a half-typed statement and cancels a running one.
If a delimiter is set, end these commands with it as well.
Each session has names of its own; all sessions share the dict `shared`.
]]

local python = {
    -- The beginning of \help.
    INTRODUCTION = 'A statement is Python: its last expression shows its value. An empty line ends\na block.\n\n',
}
internal.python = python

-- The end of \help: the names that the program gives, for users who may use them.
function python.closing()
    local names = internal.access.may_language('python') and listed() or ''
    return (names ~= '' and '\nNames of this program (help(NAME) shows more):\n\n' .. names .. '\n' or '') .. CLOSING
end

-- The last value.
function python.show(_, depth)
    depth = depth == nil and 1 or tonumber(depth)
    if type(depth) ~= 'number' or depth < 1 or depth > 10 or depth % 1 ~= 0 then
        return error('Usage: \\show [DEPTH]: a whole number from 1 to 10', 0)
    end
    internal.access.need_language('python')
    return show(depth)
end

-- Completions of a text, as internal.complete() gives them.
function python.complete(text)
    internal.access.need_language('python')
    local found = complete(text)
    return #found > 0 and found or nil
end

-- Where statements run: shows it without a value.
function python.mode(_, value)
    return mode(value or '')
end

-- Where new names are kept. False for an unknown value.
function python.scope(value)
    return (value == 'session' or value == 'global') and scope(value)
end
