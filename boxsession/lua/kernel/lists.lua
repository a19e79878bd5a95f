-- unpack and the table library as users get them. Work that takes long in C is done in Lua, or in steps between which other
-- tasks can run.
-- Needs: kernel/blame, kernel/strings
local internal = ...
local raw, guard = internal.raw, internal.guard
local concat, error, insert, rawget, rawset, select, tonumber, type, unpack = raw.concat, raw.error, raw.insert, raw.rawget,
    raw.rawset, raw.select, raw.tonumber, raw.type, raw.unpack
local blame, counted, looked, with_room, text_or_nil = guard.blame, guard.counted, guard.looked, guard.with_room,
    guard.text_or_nil
local join_all = internal.pattern.join
local WORK_MAX = guard.WORK_MAX
-- Lists with more items take long in C: the clock is read afterwards.
local LONG_LIST = 2^12

-- unpack of Lua 5.1 converts both ends and their distance to an int, and overruns the stack if one of them wraps
-- (CVE-2025-46817). So the range is checked first: ends in the range of an int, in order, and not too far apart.
local UNPACK_MAX, INT_MIN, INT_MAX = 1e6, -2^31, 2^31 - 1
function _G.unpack(...)
    local list, first, last = ...
    if type(list) ~= 'table' then
        if internal.exposed.is_object(list) then
            return _G.unpack(internal.exposed.list(list), first, last)
        end
        return blame(unpack, ...)
    end
    local from, to = tonumber(first or 1), tonumber(last or #list)
    if not from or not to then
        return blame(unpack, list, from or first, to or last)
    end
    if from > to then
        return
    end
    if not (from >= INT_MIN and to <= INT_MAX and to - from < UNPACK_MAX) then
        return error('too many results to unpack', 2)
    end
    return unpack(list, from, to)
end

-- table.insert of Lua 5.1 moves every element from the position to the end, one by one, also if the position is far outside
-- the list. So only positions in or near the list are allowed.
local INSERT_MIN = -2^12
local function truncated(number)
    return number < 0 and -raw.floor(-number) or raw.floor(number)
end
table.insert = function(...)
    local list, position = ...
    local count = select('#', ...)
    if type(list) == 'table' then
        if count == 2 then
            return insert(...)
        end
        local number = count == 3 and tonumber(position)
        if number then
            local length = #list
            if number >= INSERT_MIN and number <= length + 2^20 then
                if length - number > WORK_MAX then
                    number = truncated(number)
                    for index = length, number, -1 do
                        rawset(list, index + 1, rawget(list, index))
                    end
                    rawset(list, number, (select(3, ...)))
                    return
                elseif length > LONG_LIST then
                    return looked(insert(...))
                end
                return insert(...)
            end
            return error("bad argument #2 to 'insert' (position out of bounds)", 2)
        end
    end
    internal.exposed.refuse_change(list)
    return blame(insert, ...)
end

local remove = raw.remove
table.remove = function(...)
    local list, position = ...
    if type(list) == 'table' and select('#', ...) > 1 and #list > LONG_LIST then
        local length, number = #list, tonumber(position)
        if number and number >= 1 and length - number > WORK_MAX then
            number = truncated(number)
            local value = rawget(list, number)
            for index = number, length - 1 do
                rawset(list, index, rawget(list, index + 1))
            end
            rawset(list, length, nil)
            return value
        end
        return looked(blame(remove, ...))
    elseif type(list) == 'userdata' then
        internal.exposed.refuse_change(list)
    end
    return blame(remove, ...)
end

-- table.concat of long lists works in steps, between which other tasks can run.
local CONCAT_STEP, CONCAT_BYTES = 1024, 2^20
function table.concat(...)
    local list, separator, first, last = ...
    if type(list) ~= 'table' then
        if internal.exposed.is_object(list) then
            return table.concat(internal.exposed.list(list), select(2, ...))
        end
        return blame(concat, ...)
    end
    local from, to = first == nil and 1 or tonumber(first), last == nil and #list or tonumber(last)
    separator = separator == nil and '' or text_or_nil(separator)
    if type(separator) == 'string' and from and to then
        if from > to then
            return ''
        elseif not (from >= INT_MIN and to <= INT_MAX) then
            return error('invalid value (nil) at index ' .. INT_MIN .. " in table for 'concat'", 2)
        end
    end
    if type(separator) ~= 'string' or not from or not to
       or not (to - from > CONCAT_STEP or (to - from) * #separator > CONCAT_BYTES) then
        return with_room(concat, ...)
    end
    -- C copies separators byte by byte, so with long separators a step has fewer items.
    local step = raw.floor(CONCAT_BYTES / (#separator + 1))
    step = step > CONCAT_STEP and CONCAT_STEP or step < 1 and 1 or step
    local pieces, count = {}, 0
    for start = from, to, step do
        local stop = start + step - 1
        pieces[count + 1] = with_room(concat, list, separator, start, stop < to and stop or to)
        pieces[count + 2] = start + step <= to and separator or ''
        count = count + 2
        internal.look()
    end
    return join_all(pieces, count)
end
internal.concat = table.concat

local SORT_IN_C, LONG_ITEM = 4096, 2^10
-- Whether C sorts a list quickly: it has few items, and none takes long to compare. (A string is compared with strings
-- only, so the first item's type decides.)
local function is_quick(list)
    local length = #list
    if length > SORT_IN_C then
        return false
    end
    if type(rawget(list, 1)) == 'string' then
        for index = 1, length do
            local item = rawget(list, index)
            if type(item) == 'string' and #item > LONG_ITEM then
                return false
            end
        end
    end
    return true
end

local sort = raw.sort
local function is_less(a, b)
    return a < b
end
function table.sort(...)
    local list, compare = ...
    if type(list) == 'userdata' then
        internal.exposed.refuse_change(list)
    end
    if type(list) == 'table' and compare == nil then
        -- With a comparison function in Lua the hook is called.
        return blame(sort, list, not is_quick(list) and is_less or nil)
    elseif type(compare) == 'function' then
        return blame(sort, list, counted(compare))
    end
    return blame(sort, ...)
end

local maxn = table.maxn
function table.maxn(...)
    local list = ...
    if type(list) ~= 'table' then
        return blame(maxn, ...)
    end
    local most = 0
    for key in raw.next, list do
        if type(key) == 'number' and key > most then
            most = key
        end
    end
    return most
end
