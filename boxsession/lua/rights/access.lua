-- Who a statement runs as, and what that user may do: levels, denials, su, login.
--
-- A session has a user (`user`, `uid`) and the one that it logged in as (`login`, a uid). What a change of user runs, runs
-- in a coroutine of its own, by which `credentials` says who that is; what it starts inherits them. So nothing has to be
-- put back, whatever ends it.
-- Needs: library/expose
local internal, COUNT, LOG = ...
local raw, task = internal.raw, internal.task
local co_running, co_status, co_yield, error, getinfo, next, raw_pcall, select, type = raw.co_running, raw.co_status,
    raw.co_yield, raw.error, raw.getinfo, raw.next, raw.pcall, raw.select, raw.type
local credentials, current = task.credentials, task.current
local find_rights, become, find_su, check_login, check_scramble = internal.service('rights'), internal.service('become'),
    internal.service('su'), internal.service('login'), internal.service('login_by_scramble')
local session = _G.box.session

local access = {}
internal.access = access

local ADMIN = 1
local contract = internal.contract
local SANDBOX, READ, FULL = contract.SANDBOX, contract.READ, contract.FULL
access.READ, access.FULL = READ, FULL

-- The scope of a session whose rights are to be looked up before its next statement.
local STALE = {}
access.STALE = STALE

-- Whose rights are asked for: what has a `uid` and a `user`. Credentials may say besides: `trusted` (may use what is
-- everybody's), `may_su` (su() asks nobody), `home` (the restricted session that they are of), `diag` (what holds the last
-- error, where that is not the task's).
local function effective()
    return credentials[co_running()] or current().session
end
access.effective = effective

-- What a user may do, by uid: {level =, functions = {name = uid that it runs as, or false}, commands = {name = true}, or true
-- for all of them}. Forgotten at each change.
local ALL = {level = FULL, functions = {}, commands = true}
local known = {}

local function rights(uid)
    if uid == ADMIN then
        return ALL
    end
    local found = known[uid]
    if not found then
        local asked = known
        found = find_rights(uid)
        asked[uid] = found
    end
    return found
end
access.rights = rights

-- Puts a session under the rights of its user; returns its scope, false for all sessions' globals. Where rights, or its user,
-- change meanwhile, it is done again: what has just been marked as stale must not be put in force.
local function apply(record)
    while true do
        local seen, uid, user = known, record.uid, record.user
        local level = rights(uid).level
        local scope, maker = record.chosen_scope, nil
        if level ~= FULL then
            scope, maker = internal.sandbox(record, uid, level), {uid = uid, user = user, home = record}
        end
        task.lock()
        local is_so = known == seen and record.uid == uid
        if is_so then
            record.level, record.scope, record.maker = level, scope, maker
        end
        task.unlock()
        if is_so then
            return scope
        end
    end
end
access.apply = apply

-- A session begins.
function access.begin(record)
    record.level = record.uid == ADMIN and FULL or SANDBOX
    record.scope = record.uid ~= ADMIN and STALE
end

-- Refuses, under the name of a function that acts on others, who may not do everything.
function access.need_full(name)
    local who = effective()
    if rights(who.uid).level ~= FULL then
        return access.deny('Execute', 'function', name)
    end
end

-- Whether who runs now may call a command that needs a right ('' for none).
function access.may_command(name, right)
    if right == '' then
        return true
    end
    local found = rights(effective().uid)
    local commands = found.commands
    return found.level == FULL or right == 'read' and found.level >= READ or commands == true or commands[name] == true
end

-- Rights have changed: all who are not admin find theirs anew in front of their next statement. Until then the level is what
-- the running one began with. Python tells, since who has asked for the change may be gone before it is stored; nobody's turn
-- comes in the middle.
function internal.take_rights_changes()
    while true do
        known = {}
        for _, record in next, internal.sessions do
            if record.uid ~= ADMIN then
                record.scope = STALE
            end
        end
        co_yield('')
    end
end

-- What holds the last error of the code that runs: who runs as somebody else has one of his own.
function access.diagnostics()
    local who = credentials[co_running()]
    return who and who.diag or current()
end

-- Whether what runs now may use what is everybody's: as it began, or as rights are by now.
function access.is_full()
    local who, record = effective(), current().session
    return who.trusted or record.level == FULL or rights(record.uid).level == FULL
end

-- Whether restricted code is where it may do nothing: in the session of somebody else, or inside of what runs as somebody
-- trusted.
function access.is_foreign()
    local who, record = credentials[co_running()], current().session
    return who and (who.trusted or who.home and who.home ~= record) or record.level == FULL
        or rights(record.uid).level == FULL
end

-- Another user's code ---------------------------------------------------------------------------------------------------

local YIELDED = 'attempt to yield across a change of user'
local function finish(co, ok, ...)
    task.check()
    if not ok then
        task.uncritical()
        return error((...), 0)
    end
    if co_status(co) ~= 'dead' then
        return error(YIELDED, 0)
    end
    return ...
end

-- A coroutine has a Lua stack of its own, but the levels of C calls (pcall, gsub, metamethods: 200 in all) are counted
-- through all coroutines. A restricted session could use up most of them first, and so end the code of somebody else in the
-- middle: that begins only where LEVELS are left for it.
local LEVELS, FEW_FRAMES = 100, 50
local is_of_user = coroutine.running        -- nil in a task's own coroutine
local function has_levels(count)
    if count == 0 then
        return true
    end
    local ok, rest = raw_pcall(has_levels, count - 1)
    return ok and rest
end
local function need_levels()
    -- Each level has a frame: a short stack has used few. (A look at it costs a fiftieth of trying.)
    if is_of_user() == nil and not getinfo(FEW_FRAMES, 'l') then
        return
    end
    if not has_levels(LEVELS) then
        return error('stack overflow', 0)
    end
end

-- Calls func(...) as somebody else.
function access.run_as(who, func, ...)
    if not access.is_full() then
        need_levels()
    end
    local co = task.new_coroutine(func)
    credentials[co] = who
    return finish(co, task.resume(co, ...))
end
local run_as = access.run_as

-- Triggers run as admin, wherever the session itself does not.
function access.run_trigger(func, ...)
    if current().session.uid == ADMIN and not credentials[co_running()] then
        return func(...)
    end
    return run_as({uid = ADMIN, user = 'admin', trusted = true, may_su = true, diag = {}}, func, ...)
end
local run_trigger = access.run_trigger

-- Those of an event. What one raises goes to the log, but for on_connect's and on_auth's (`raises`).
function access.run_triggers(event, raises, ...)
    local list = internal.triggers(event)
    for index = 1, #list do
        if raises then
            run_trigger(list[index], ...)
        else
            local ok, message = task.protected(run_trigger, list[index], ...)
            if not ok then
                local text = (type(message) == 'string' or type(message) == 'number') and message or 'an error object'
                local _ = LOG['report:' .. event .. ' trigger of session ' .. current().session.id .. ' raised: ' .. text]
            end
        end
    end
end

-- A denial: counted, told to the triggers, and raised.
function access.deny(privilege, kind, name, user)
    local _ = COUNT['denied']
    user = user or effective().user
    access.run_triggers('on_access_denied', false, privilege, kind, name)
    return internal.raise('ACCESS_DENIED', privilege, kind, name, user)
end

-- Identity --------------------------------------------------------------------------------------------------------------

function session.user()
    return current().session.user
end

function session.effective_user()
    return effective().user
end

function session.uid()
    return current().session.uid
end

function session.euid()
    return effective().uid
end

local function become_here_and_there(record, uid, user, has_logged_in)
    become(uid, user, has_logged_in)
    if has_logged_in then
        record.login = uid
    end
    record.maker = nil
    record.uid, record.user = uid, user
    record.scope = uid == ADMIN and record.chosen_scope or uid ~= ADMIN and STALE
    record.level = uid == ADMIN and FULL or SANDBOX
end

-- Not ended in the middle: what Python has recorded of a session is who it is here.
local function turn_into(...)
    task.to_the_end(become_here_and_there, ...)
end

-- su(user) makes the session another user's; su(user, function, ...) calls the function as that user.
-- compat: only who logged in as admin or as one who holds super may, and may come back.
function session.su(...)
    local count = select('#', ...)
    if count == 0 then
        return error('session.su(): bad arguments', 0)
    end
    local name, func = ...
    if count > 1 and type(func) ~= 'function' then
        return error("bad argument #2 to '?' (function expected, got " .. type(func) .. ')', 0)
    end
    if type(name) ~= 'string' and type(name) ~= 'number' then
        return internal.raise('NO_SUCH_USER', raw.tostring(name))
    end
    local record = current().session
    local who = effective()
    local found = find_su(who.may_su and ADMIN or record.login, who.uid, name)
    if count > 1 then
        return run_as({uid = found.uid, user = found.user, trusted = access.is_full(), diag = who.diag}, func, select(3, ...))
    end
    if record.id == 0 then
        return error('session.su(): there is no session here', 0)
    end
    turn_into(record, found.uid, found.user, false)
end

-- Makes the session that of who has proved who it is; `found` says who, nothing for a wrong password.
local function log_in(name, found)
    local record = current().session
    access.run_triggers('on_auth', found.uid, name, found.uid ~= nil)
    if not found.uid then
        return internal.raise('PASSWORD_MISMATCH', name)
    end
    turn_into(record, found.uid, found.user, true)
    return true
end

function access.login(name, password)
    return log_in(name, check_login(name, password))
end

-- The same, by what the binary protocol sends.
function access.login_by_scramble(name, method, scramble)
    return log_in(name, check_scramble(name, method or '', scramble or ''))
end
