-- The identity of running code, and its rights: levels, denials, su, triggers, login.
--
-- A session has a user (`user`, `uid`) and the uid that it logged in as (`login`). Invariant: code that runs as another
-- user runs in a separate coroutine, whose identity is in `credentials`; coroutines made inside inherit it. So no
-- identity has to be restored, however the code ends.
-- Needs: library/calls
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

-- The scope of a session whose rights must be looked up before its next statement.
local STALE = {}
access.STALE = STALE

-- The identity whose rights count now: a table with `uid` and `user` (credentials or a session record). Credentials can
-- have further fields: `trusted` (may use the shared globals), `may_su` (su() succeeds without a check of the login
-- user), `home` (the restricted session that made the code), `diag` (holds the last error instead of the task).
local function effective()
    return credentials[co_running()] or current().session
end
access.effective = effective

-- Rights by uid: {level =, usage =, functions = {name = uid that it runs as, or false}, commands = {name = true}, or true for all
-- commands, languages = {name = true}: those besides Lua, watch = may watch functions}. The cache is emptied at each change of rights.
local ALL = {level = FULL, usage = true, functions = {}, commands = true, languages = {}, watch = true}
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

-- Sets a session's level, scope and maker by its user's rights. Returns the scope, or false for the shared globals. The
-- lookup may wait: if the rights or the session's user change meanwhile, it is repeated, so that stale rights are never
-- set.
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

-- Sets the level and scope of a new session.
function access.begin(record)
    record.level = record.uid == ADMIN and FULL or SANDBOX
    record.scope = record.uid ~= ADMIN and STALE
end

-- Raises a denial for function `name`, unless the running code has full rights. For functions that act on other sessions.
function access.need_full(name)
    local who = effective()
    if rights(who.uid).level ~= FULL then
        return access.deny('Execute', 'function', name)
    end
end

-- Whether the running code may call a command that needs `right` ('' for none).
function access.may_command(name, right)
    if right == '' then
        return true
    end
    local found = rights(effective().uid)
    if right == 'watch' then
        return found.level == FULL or found.watch
    end
    local commands = found.commands
    return found.level == FULL or right == 'read' and found.level >= READ or commands == true or commands[name] == true
end

-- Whether the running code may have statements in a language.
function access.may_language(name)
    local found = rights(effective().uid)
    return name == 'lua' or found.level == FULL or found.languages[name] == true
end

-- Raises a denial, unless the running code may have statements in a language.
function access.need_language(name)
    if not access.may_language(name) then
        return access.deny('Execute', name, '')
    end
end

-- Rights have changed: sessions of all users except admin look theirs up before their next statement. A running statement
-- keeps its level. Python calls this, since the session that asked for the change may have ended before it is stored. No
-- other task runs in between.
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

-- The table that holds the last error of the running code. Code that runs as another user has a separate one.
function access.diagnostics()
    local who = credentials[co_running()]
    return who and who.diag or current()
end

-- Whether the running code may use the shared globals, by the rights that its statement began with or by the current ones.
function access.is_full()
    local who, record = effective(), current().session
    return who.trusted or record.level == FULL or rights(record.uid).level == FULL
end

-- Whether restricted code must not act: it runs in another user's session, or inside trusted code.
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

-- Each coroutine has its own Lua stack, but the levels of C calls (pcall, gsub, metamethods: 200 in all) are counted
-- through nested coroutines. A restricted session could use up most of them, and so make another user's code fail
-- halfway. So such code starts only if LEVELS are left.
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
    -- Each level of C calls has a stack frame, so a short stack has used few levels. (This test costs a fiftieth of the
    -- other.)
    if is_of_user() == nil and not getinfo(FEW_FRAMES, 'l') then
        return
    end
    if not has_levels(LEVELS) then
        return error('stack overflow', 0)
    end
end

-- Calls func(...) under another identity, `who`.
function access.run_as(who, func, ...)
    if not access.is_full() then
        need_levels()
    end
    local co = task.new_coroutine(func)
    credentials[co] = who
    return finish(co, task.resume(co, ...))
end
local run_as = access.run_as

-- Runs a trigger as admin, in a separate coroutine unless the code already runs as admin.
function access.run_trigger(func, ...)
    if current().session.uid == ADMIN and not credentials[co_running()] then
        return func(...)
    end
    return run_as({uid = ADMIN, user = 'admin', trusted = true, may_su = true, diag = {}}, func, ...)
end
local run_trigger = access.run_trigger

-- Runs the triggers of an event. Their errors are logged, or raised if `raises` (on_connect; on_auth with a right
-- password).
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

-- Counts a denial, runs the on_access_denied triggers, and raises ACCESS_DENIED. Without `user`, the running code is denied:
-- for lack of the privilege `usage`, if its user does not have that.
function access.deny(privilege, kind, name, user)
    local _ = COUNT['denied']
    if not user then
        local who = effective()
        user = who.user
        if not rights(who.uid).usage then
            privilege = 'Usage'
        end
    end
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

-- Not interrupted by KILL, so that Python and Lua always have the same user for a session.
local function turn_into(...)
    task.to_the_end(become_here_and_there, ...)
end

-- su(user) changes the session's user; su(user, function, ...) calls the function as that user.
-- compat: allowed only if the session logged in as admin or as a user with the role super; it may change back.
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

-- Logs the session in as user `name`. `found`: the user, without a uid if the password was wrong.
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

-- The same, with the scramble that the binary protocol sends.
function access.login_by_scramble(name, method, scramble)
    return log_in(name, check_scramble(name, method, scramble))
end
