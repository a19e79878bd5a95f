-- The triggers of box.session: users set them here, and sessions run them.
-- Needs: library/box
local internal, LOG, packed_facts = ...
local raw, task = internal.raw, internal.task
local error, next, type = raw.error, raw.next, raw.type
local box = _G.box

-- Event name -> list of functions, newest first.
local triggers = {on_connect = {}, on_disconnect = {}, on_auth = {}, on_access_denied = {}}

local function is_callable_or_nil(value)
    return value == nil or type(value) == 'function'
end

local function position_of(list, func)
    for index = 1, #list do
        if list[index] == func then
            return index
        end
    end
end

local function changed_list(list, new, old)
    local changed, at = {}, old and position_of(list, old)
    if old and not at then
        return error('trigger reset: Trigger is not found', 0)
    end
    if not at then
        changed[1] = new
    end
    for index = 1, #list do
        if index ~= at then
            changed[#changed + 1] = list[index]
        elseif new then
            changed[#changed + 1] = new
        end
    end
    return changed
end

-- Replaces the event's list if it is still `list`; false if another task has replaced it.
local function replace(event, list, changed)
    task.lock()
    local is_there = triggers[event] == list
    if is_there then
        triggers[event] = changed
    end
    task.unlock()
    return is_there
end

-- trigger() lists, trigger(new) adds, trigger(new, old) replaces, trigger(nil, old) deletes.
local function trigger(event)
    return function(...)
        local new, old = ...
        local list = triggers[event]
        if not is_callable_or_nil(new) or not is_callable_or_nil(old) then
            return error('trigger reset: incorrect arguments', 0)
        end
        if new == nil and old == nil then
            local copy = {}
            for index = 1, #list do
                copy[index] = list[index]
            end
            return copy
        end
        -- Lists are replaced, never changed, so a run under way keeps its list. If another task was faster, the change is
        -- made again.
        while not replace(event, list, changed_list(list, new, old)) do
            list = triggers[event]
        end
        if new then
            return new
        end
    end
end
for event in next, triggers do
    box.session[event] = trigger(event)
end

local none, are_off = {}, internal.packed.value(packed_facts).triggers == false
function internal.triggers(event)
    return are_off and none or triggers[event]
end

-- on_connect: the first error ends the run and the session.
function internal.run_on_connect()
    internal.access.run_triggers('on_connect', true)
end

-- on_disconnect: every trigger runs, whatever the others raise; errors are logged.
local function report_trigger(me, problem)
    task.make_room(problem == internal.OUT_OF_MEMORY)
    local message = task.text_of(me, problem)
    task.lift_limit()
    local _ = LOG['report:on_disconnect trigger of session ' .. me.session.id .. ' raised: ' .. message]
end
function internal.run_on_disconnect(me)
    local list = internal.triggers('on_disconnect')
    for index = 1, #list do
        local ok, problem = task.run(me, internal.access.run_trigger, list[index])
        if not ok then
            raw.pcall(report_trigger, me, problem)
            me.keeps_limit = true           -- task.run() puts the limit back before the next trigger
        end
    end
end
