-- fiber.top(): which fibers use the time of the event loop. The times are taken in Python (lua/top_ports.py, scheduler/top.py).
-- Needs: library/fiber, wire/packed
local internal, TOP_ENABLE, TOP_DISABLE, TOP = ...
local raw, task = internal.raw, internal.task
local concat, error, next = raw.concat, raw.error, raw.next
local fiber = internal.modules.fiber
local info = fiber.info

function fiber.top_enable()
    local _ = TOP_ENABLE[task.current().fid]
end

function fiber.top_disable()
    local _ = TOP_DISABLE[0]
end

-- Rows that are asked for at once: few enough to be no long turn, since a long list is preempted in between.
local MOST = 50

local function look(fids)
    local numbers = task.text(TOP, fids)
    if numbers == '' then
        return error('fiber.top() is disabled. Enable it with fiber.top_enable() first', 0)
    end
    return internal.packed.value(numbers)
end

local function rest(whole, part)
    return part < whole and whole - part or 0
end

-- The row '1/sched' is what no listed fiber used: the program, the input and output of sessions, fibers that have ended.
function fiber.top()
    local cpu, instant, time, average, fids, shown = {}, 0, 0, 0, {}, info()
    for fid in next, shown do
        fids[#fids + 1] = fid
    end
    for first = 1, #fids, MOST do
        local last = first + MOST <= #fids and first + MOST - 1 or #fids
        local numbers, at = look(concat(fids, ' ', first, last)), 2
        for index = first, last do
            local fid = fids[index]
            local row = {instant = numbers[at], time = numbers[at + 1], average = numbers[at + 2]}
            cpu[fid .. '/' .. shown[fid].name], at = row, at + 3
            instant, time, average = instant + row.instant, time + row.time, average + row.average
        end
    end
    local whole = look('')[1]
    cpu['1/sched'] = {instant = rest(100, instant), time = rest(whole, time), average = rest(100, average)}
    return {cpu = cpu, cpu_misses = 0}
end
