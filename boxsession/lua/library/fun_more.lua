-- The module fun, second part: functions that search, filter, fold, transform and join iterators.
-- Needs: library/fun
local internal = ...
local raw, parts_of = internal.raw, internal.fun_parts
local error, getmetatable, select, type = raw.error, raw.debug_getmetatable, raw.select, raw.type
local behind_state, check, copy_of, search = parts_of.behind_state, parts_of.check, parts_of.copy_of, parts_of.search
local string_gen, zip_gen, chain_gen = parts_of.string_gen, parts_of.zip_gen, parts_of.chain_gen
local counted, cycled, enumerated, filtered = parts_of.counted, parts_of.cycled, parts_of.enumerated, parts_of.filtered

local function indexes_gen(param, state)
    local index, inner = state[1], state[2]
    while true do
        local value
        inner, value = param[2](param[3], inner)
        if inner == nil then
            return nil
        end
        index = index + 1
        if value == param[1] then
            return {index, inner}, index
        end
    end
end

local function filter_gen(param, state)
    return filtered(param, param[2](param[3], state))
end

local function map_gen(param, state)
    return behind_state(param[3], param[1](param[2], state))
end

local function enumerate_gen(param, state)
    return enumerated(state[1], param[1](param[2], state[2]))
end

local function intersperse_gen(param, state)
    if state[1] % 2 == 1 then
        return {state[1] + 1, state[2]}, param[1]
    end
    return counted(state[1], param[2](param[3], state[2]))
end

local function cycle_gen(param, state)
    return cycled(param, param[1](param[2], state))
end

-- Adds the functions to a module (see fun.lua).
function internal.fill_fun(fun, methods, own)
    local define, wrap, parts, meta, nothing = own.define, own.wrap, own.parts, own.meta, own.nothing

    -- Indexes

    define(1, function(wanted, gen, param, state)
        local index = 1
        for _, value in gen, param, state do
            if value == wanted then
                return index
            end
            index = index + 1
        end
        return nil
    end, 'index', 'index_of', 'elem_index')
    define(1, function(wanted, gen, param, state)
        return wrap(indexes_gen, {wanted, gen, param}, {0, state})
    end, 'indexes', 'indices', 'elem_indexes', 'elem_indices')

    -- Filters

    local function filter(func, gen, param, state)
        return wrap(filter_gen, {func, gen, param}, state)
    end
    define(1, filter, 'filter', 'remove_if')
    define(1, function(what, ...)
        local func = what
        if type(what) == 'string' then
            func = function(text) return search(text, what) ~= nil end
        end
        return filter(func, ...)
    end, 'grep')
    define(1, function(func, ...)
        return filter(func, ...), filter(function(...) return not func(...) end, ...)
    end, 'partition')

    -- Folds

    local function folded(func, so_far, state, ...)
        if state == nil then
            return nil, so_far
        end
        return state, func(so_far, ...)
    end
    define(2, function(func, so_far, gen, param, state)
        repeat
            state, so_far = folded(func, so_far, gen(param, state))
        until state == nil
        return so_far
    end, 'foldl', 'reduce')
    define(0, function(gen, param, state)
        if gen == string_gen then
            return #param
        end
        local count = -1
        repeat
            state = gen(param, state)
            count = count + 1
        until state == nil
        return count
    end, 'length')
    define(0, function(gen, param, state)
        return gen(param, copy_of(state)) == nil
    end, 'is_null')
    function fun.is_prefix_of(one, other)
        local gen, param, state = parts(one)
        local other_gen, other_param, other_state = parts(other)
        while true do
            local value, other_value
            state, value = gen(param, state)
            if state == nil then
                return true
            end
            other_state, other_value = other_gen(other_param, other_state)
            if other_state == nil or value ~= other_value then
                return false
            end
        end
    end
    methods.is_prefix_of = fun.is_prefix_of
    define(1, function(func, gen, param, state)
        local is_true
        repeat
            state, is_true = behind_state(func, gen(param, state))
        until state == nil or not is_true
        return state == nil
    end, 'all', 'every')
    define(1, function(func, gen, param, state)
        local is_true
        repeat
            state, is_true = behind_state(func, gen(param, state))
        until state == nil or is_true
        return not not is_true
    end, 'any', 'some')
    define(0, function(gen, param, state)
        local sum = 0
        for _, value in gen, param, state do
            sum = sum + value
        end
        return sum
    end, 'sum')
    define(0, function(gen, param, state)
        local product = 1
        for _, value in gen, param, state do
            product = product * value
        end
        return product
    end, 'product')

    -- `choose` returns one of two values.
    local function chosen(name, choose, gen, param, state)
        local best
        state, best = gen(param, state)
        if state == nil then
            return error(name .. ': iterator is empty', 0)
        end
        if not choose then
            choose = type(best) == 'number' and parts_of[name]
                or name == 'min' and function(a, b) return b < a and b or a end
                or function(a, b) return b > a and b or a end
        end
        for _, value in gen, param, state do
            best = choose(best, value)
        end
        return best
    end
    for name, alias in raw.next, {min = 'minimum', max = 'maximum'} do
        define(0, function(...) return chosen(name, nil, ...) end, name, alias)
        define(1, function(choose, ...) return chosen(name, choose, ...) end, name .. '_by',
               name == 'min' and 'minimum_by' or nil)
    end
    define(0, function(gen, param, state)
        local list = {}
        for _, value in gen, param, state do
            list[#list + 1] = value
        end
        return list
    end, 'totable')
    define(0, function(gen, param, state)
        local map = {}
        for _, key, value in gen, param, state do
            map[key] = value
        end
        return map
    end, 'tomap')

    -- Transformations

    define(1, function(func, gen, param, state)
        return wrap(map_gen, {gen, param, func}, state)
    end, 'map')
    define(0, function(gen, param, state)
        return wrap(enumerate_gen, {gen, param}, {1, state})
    end, 'enumerate')
    define(1, function(value, gen, param, state)
        return wrap(intersperse_gen, {value, gen, param}, {0, state})
    end, 'intersperse')

    -- Compositions

    -- How many arguments are iterators: an iterator that a call returned last is followed by its param and state.
    local function count_of(...)
        local count = select('#', ...)
        if count >= 3 then
            local last, param, state = select(count - 2, ...)
            if type(last) == 'table' and getmetatable(last) == meta and last.param == param and last.state == state then
                return count - 2
            end
        end
        return count
    end
    function fun.zip(...)
        local count = count_of(...)
        if count == 0 then
            return nothing()
        end
        local param, states = {count = count}, {}
        for index = 1, count do
            param[2 * index - 1], param[2 * index], states[index] = parts((select(count - index + 1, ...)))
        end
        return wrap(zip_gen, param, states)
    end
    define(0, function(gen, param, state)
        return wrap(cycle_gen, {gen, param, state}, copy_of(state))
    end, 'cycle')
    function fun.chain(...)
        local count = count_of(...)
        if count == 0 then
            return nothing()
        end
        local param = {}
        for index = 1, count do
            param[3 * index - 2], param[3 * index - 1], param[3 * index] = parts((select(index, ...)))
        end
        return wrap(chain_gen, param, {1, param[3]})
    end
    methods.zip, methods.chain = fun.zip, fun.chain
end

-- fun() makes the functions globals.
internal.modules.fun = raw.setmetatable(internal.new_fun(), {__call = function(module)
    for name, value in raw.next, module do
        _G[name] = value
    end
end})
