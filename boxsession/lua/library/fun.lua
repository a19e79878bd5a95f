-- The module fun: iterators, with the functions of Lua Fun 0.1.3 (https://luafun.github.io), which Tarantool has.
--
-- An iterator is a table of gen, param and state: gen(param, state) returns the next state and the values, or nil. An
-- iterator has no memory of its own: states are values, so that one iterator can be used several times.
-- Needs: library/modules
local internal = ...
local raw = internal.raw
local error, format, getmetatable, next, rawget, select, setmetatable, sub, type, unpack = raw.error, raw.format,
    raw.debug_getmetatable, raw.next, raw.rawget, raw.select, raw.setmetatable, raw.sub, raw.type, raw.unpack
local max, min, random, search, tostring = math.max, math.min, math.random, string.find, raw.tostring

local ipairs = raw.ipairs
local list_gen = ipairs({})

local function nil_gen()
    return nil
end

local function string_gen(text, at)
    at = at + 1
    if at > #text then
        return nil
    end
    return at, sub(text, at, at)
end

local function map_gen(map, key)
    local value
    key, value = next(map, key)
    return key, key, value
end

local function check(is_right, message)
    if not is_right then
        return error(message, 0)
    end
end

-- A call of func(...) in front of which the state stays; nothing if the iterator has ended.
local function behind_state(func, state, ...)
    if state == nil then
        return nil
    end
    return state, func(...)
end

local function copy_of(value)
    if type(value) ~= 'table' then
        return value
    end
    local made = {}
    for key, item in next, value do
        made[copy_of(key)] = copy_of(item)
    end
    return made
end

-- Parts of generators: each gets what another generator returned, as (state, ...).

local function counted(count, state, ...)
    if state == nil then
        return nil
    end
    return {count + 1, state}, ...
end

local function enumerated(count, state, ...)
    if state == nil then
        return nil
    end
    return {count + 1, state}, count, ...
end

local function while_true(func, state, ...)
    if state == nil or not func(...) then
        return nil
    end
    return state, ...
end

local function filtered(param, state, ...)
    if state == nil then
        return nil
    elseif param[1](...) then
        return state, ...
    end
    return filtered(param, param[2](param[3], state))
end

local function cycled(param, state, ...)
    if state == nil then
        return param[1](param[2], copy_of(param[3]))
    end
    return state, ...
end

local chain_gen
local function chained(param, index, state, ...)
    if state ~= nil then
        return {index, state}, ...
    elseif param[3 * index + 1] == nil then
        return nil
    end
    return chain_gen(param, {index + 1, param[3 * index + 3]})
end
function chain_gen(param, state)
    local index = state[1]
    return chained(param, index, param[3 * index - 2](param[3 * index - 1], state[2]))
end

-- zip: param has pairs of gen and param, from the last iterator to the first, and their count.
local function zipped(param, states, made, ...)
    local index = #made + 1
    if index > param.count then
        return made, ...
    end
    local state, value = param[2 * index - 1](param[2 * index], states[index])
    if state == nil then
        return nil
    end
    made[index] = state
    return zipped(param, states, made, value, ...)
end
local function zip_gen(param, states)
    return zipped(param, states, {})
end

local function without_state(message, state, ...)
    if state == nil and message then
        return error(message, 0)
    elseif state == nil then
        return nil
    end
    return ...
end

local OPERATORS = {
    lt = function(a, b) return a < b end, le = function(a, b) return a <= b end, eq = function(a, b) return a == b end,
    ne = function(a, b) return a ~= b end, ge = function(a, b) return a >= b end, gt = function(a, b) return a > b end,
    add = function(a, b) return a + b end, sub = function(a, b) return a - b end, mul = function(a, b) return a * b end,
    div = function(a, b) return a / b end, mod = function(a, b) return a % b end, pow = function(a, b) return a ^ b end,
    floordiv = function(a, b) return raw.floor(a / b) end,
    intdiv = function(a, b)
        local quotient = a / b
        return quotient >= 0 and raw.floor(quotient) or -raw.floor(-quotient)
    end,
    unm = function(a) return -a end, concat = function(a, b) return a .. b end, len = function(a) return #a end,
    land = function(a, b) return a and b end, lor = function(a, b) return a or b end, lnot = function(a) return not a end,
    truth = function(a) return not not a end,
}
OPERATORS.neq, OPERATORS.truediv, OPERATORS.length = OPERATORS.ne, OPERATORS.div, OPERATORS.len

-- Makes the module. Each has its own metatable of iterators: users reach that of one, and may change it. `seal` makes a
-- table read-only.
function internal.new_fun(seal)
    local fun, methods, operator = {}, {}, {}
    for name, func in next, OPERATORS do
        operator[name] = func
    end
    operator = seal and seal(operator) or operator
    local meta = {__index = methods, __call = function(self, param, state)
        return self.gen(param, state)
    end, __tostring = function()
        return '<generator>'
    end}

    local function wrap(gen, param, state)
        return setmetatable({gen = gen, param = param, state = state}, meta), param, state
    end

    local function nothing()
        return wrap(nil_gen, nil, nil)
    end

    local function parts(object, param, state)
        check(object ~= nil, 'invalid iterator')
        local kind = type(object)
        if kind == 'table' then
            local own = getmetatable(object)
            if own == meta then
                return object.gen, object.param, object.state
            end
            local iterate = own and (rawget(own, '__ipairs') or rawget(own, '__pairs'))
            if iterate then
                return iterate(object)
            elseif #object > 0 then
                return ipairs(object)
            end
            return map_gen, object, nil
        elseif kind == 'function' then
            return object, param, state
        elseif kind == 'string' then
            if object == '' then
                return nil_gen, nil, nil
            end
            return string_gen, object, 0
        end
        return error(format('object %s of type "%s" is not iterable', tostring(object), kind), 0)
    end

    -- Registers func(argument..., gen, param, state) with `count` arguments, as functions and as methods.
    local function define(count, func, ...)
        local as_function, as_method
        if count == 0 then
            as_function = function(...) return func(parts(...)) end
            as_method = function(self) return func(self.gen, self.param, self.state) end
        elseif count == 1 then
            as_function = function(one, ...) return func(one, parts(...)) end
            as_method = function(self, one) return func(one, self.gen, self.param, self.state) end
        else
            as_function = function(one, two, ...) return func(one, two, parts(...)) end
            as_method = function(self, one, two) return func(one, two, self.gen, self.param, self.state) end
        end
        for _, name in ipairs({...}) do
            fun[name], methods[name] = as_function, as_method
        end
    end

    function fun.iter(...) return wrap(parts(...)) end
    function methods.unwrap(self) return self.gen, self.param, self.state end
    fun.wrap = wrap
    fun.operator, fun.op, methods.operator, methods.op = operator, operator, operator, operator

    define(1, function(func, gen, param, state)
        repeat
            state = behind_state(func, gen(param, state))
        until state == nil
    end, 'each', 'for_each', 'foreach')

    -- Generators

    local function range_gen(param, state)
        state = state + param[2]
        if param[2] > 0 and state > param[1] or param[2] < 0 and state < param[1] then
            return nil
        end
        return state, state
    end
    function fun.range(start, stop, step)
        if step == nil then
            if stop == nil then
                if start == 0 then
                    return nothing()
                end
                stop = start
                start = stop > 0 and 1 or -1
            end
            step = start <= stop and 1 or -1
        end
        check(type(start) == 'number', 'start must be a number')
        check(type(stop) == 'number', 'stop must be a number')
        check(type(step) == 'number', 'step must be a number')
        check(step ~= 0, 'step must not be zero')
        return wrap(range_gen, {stop, step}, start - step)
    end

    local function same_gen(value, state) return state + 1, value end
    local function list_of_same_gen(values, state) return state + 1, unpack(values, 1, values.count) end
    local function function_gen(func, state) return state + 1, func(state) end
    function fun.duplicate(...)
        local count = select('#', ...)
        if count <= 1 then
            return wrap(same_gen, (...), 0)
        end
        return wrap(list_of_same_gen, {count = count, ...}, 0)
    end
    fun.replicate, fun.xrepeat = fun.duplicate, fun.duplicate
    function fun.tabulate(func) return wrap(function_gen, func, 0) end
    function fun.zeros() return wrap(same_gen, 0, 0) end
    function fun.ones() return wrap(same_gen, 1, 0) end

    local function fraction_gen() return 0, random() end
    local function random_gen(param) return 0, random(param[1], param[2]) end
    function fun.rands(first, last)
        if first == nil and last == nil then
            return wrap(fraction_gen, 0, 0)
        end
        check(type(first) == 'number', 'invalid first arg to rands')
        if last == nil then
            first, last = 0, first
        else
            check(type(last) == 'number', 'invalid second arg to rands')
        end
        check(first < last, 'empty interval')
        return wrap(random_gen, {first, last - 1}, 0)
    end

    -- Slices

    define(1, function(number, gen, param, state)
        check(number > 0, 'invalid first argument to nth')
        if gen == list_gen then
            return param[number]
        elseif gen == string_gen then
            if number <= #param then
                return sub(param, number, number)
            end
            return nil
        end
        for _ = 1, number - 1 do
            state = gen(param, state)
            if state == nil then
                return nil
            end
        end
        return without_state(nil, gen(param, state))
    end, 'nth')
    define(0, function(gen, param, state)
        return without_state('head: iterator is empty', gen(param, state))
    end, 'head', 'car')
    define(0, function(gen, param, state)
        state = gen(param, state)
        if state == nil then
            return nothing()
        end
        return wrap(gen, param, state)
    end, 'tail', 'cdr')

    local function take_n_gen(param, state)
        if state[1] >= param[1] then
            return nil
        end
        return counted(state[1], param[2](param[3], state[2]))
    end
    local function take_n(count, gen, param, state)
        check(count >= 0, 'invalid first argument to take_n')
        return wrap(take_n_gen, {count, gen, param}, {0, state})
    end
    local function take_while_gen(param, state)
        return while_true(param[1], param[2](param[3], state))
    end
    local function take_while(func, gen, param, state)
        check(type(func) == 'function', 'invalid first argument to take_while')
        return wrap(take_while_gen, {func, gen, param}, state)
    end
    local function take(what, ...)
        return (type(what) == 'number' and take_n or take_while)(what, ...)
    end
    local function drop_n(count, gen, param, state)
        check(count >= 0, 'invalid first argument to drop_n')
        for _ = 1, count do
            state = gen(param, state)
            if state == nil then
                return nothing()
            end
        end
        return wrap(gen, param, state)
    end
    local function drop_while(func, gen, param, state)
        check(type(func) == 'function', 'invalid first argument to drop_while')
        local before, follows
        repeat
            before = state
            state, follows = behind_state(func, gen(param, state))
        until state == nil or not follows
        if state == nil then
            return nothing()
        end
        return wrap(gen, param, before)
    end
    local function drop(what, ...)
        return (type(what) == 'number' and drop_n or drop_while)(what, ...)
    end
    define(1, take_n, 'take_n')
    define(1, take_while, 'take_while')
    define(1, take, 'take')
    define(1, drop_n, 'drop_n')
    define(1, drop_while, 'drop_while')
    define(1, drop, 'drop')
    define(1, function(what, ...)
        return take(what, ...), drop(what, ...)
    end, 'split', 'split_at', 'span')

    internal.fill_fun(fun, methods, {define = define, wrap = wrap, parts = parts, meta = meta, nothing = nothing})
    return fun
end

internal.fun_parts = {
    behind_state = behind_state, chain_gen = chain_gen, check = check, copy_of = copy_of, counted = counted, cycled = cycled,
    enumerated = enumerated, filtered = filtered, max = max, min = min, search = search,
    string_gen = string_gen, zip_gen = zip_gen,
}
