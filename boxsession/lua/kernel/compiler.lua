-- Compiles text. All code comes through load_text(): statements, requests, loadstring, load, scripts and check-config.
--
-- Invariant: code that the interpreter of Lua 5.1.5 cannot run safely is refused here. The compiler accepts two kinds of
-- it: bytecode, which it does not verify, and functions with many parameters before `...`. Code that would take the
-- compiler too long is refused as well, since the compiler cannot be interrupted.
-- Needs: kernel/raw
local internal = ...
local raw = internal.raw
local byte, dump, error, find, format, getinfo, gsub, loadstring, match, pcall, sub = raw.byte, raw.dump, raw.error,
    raw.find, raw.format, raw.getinfo, raw.gsub, raw.loadstring, raw.match, raw.pcall, raw.sub

-- Why three parameters are safe: a call of a Lua function makes room for its registers (maxstacksize). Then
-- adjust_varargs() of ldo.c pushes a nil for each parameter without an argument and moves the parameters above these; the
-- registers begin there. So the frame can end up to `numparams` slots beyond the room (CVE-2014-5461). After the room
-- come EXTRA_STACK = 5 slots and one more. An instruction that calls a metamethod writes up to four slots beyond the
-- frame before it checks the stack, and a frame that fits ends at least one slot before the end of the room. So
-- 1 + 6 - 4 = 3 slots may be missing. With four parameters, a recursion that hits the right depth corrupts the heap. All
-- calls, tail calls, metamethods and the start of a coroutine go through the same luaD_precall().
--
-- A function that does not use its `...` gets the table `arg`, and its room is checked once more: it is safe.
local SAFE_PARAMETERS = 3
local HAS_PARAMETER_ARG, NEEDS_ARG = 1, 4

-- The header of a dumped chunk: its length in bytes, and the offsets of the bytes that hold the sizes of int, size_t,
-- instruction and number. Then the type bytes of constants.
local HEADER_BYTES, INT_AT, SIZE_AT, INSTRUCTION_AT, NUMBER_AT = 12, 8, 9, 10, 11
local NIL, BOOLEAN, NUMBER = 0, 1, 3
local int_bytes, size_bytes, instruction_bytes, number_bytes, is_little
do
    local header = dump(function() end)
    is_little = byte(header, 7) == 1
    int_bytes, size_bytes = byte(header, INT_AT, SIZE_AT)
    instruction_bytes, number_bytes = byte(header, INSTRUCTION_AT, NUMBER_AT)
end

local function unsigned(dumped, at, bytes)
    local number = 0
    for index = 0, bytes - 1 do
        number = number * 256 + byte(dumped, is_little and at + bytes - 1 - index or at + index)
    end
    return number
end

local function behind_string(dumped, at)
    return at + size_bytes + unsigned(dumped, at, size_bytes)
end

-- The position after the function that begins at `at`; or nil, and the line and number of parameters of the first unsafe
-- function.
local function behind_function(dumped, at)
    at = behind_string(dumped, at)
    local line = unsigned(dumped, at, int_bytes)
    at = at + 2 * int_bytes
    local _, parameters, varargs = byte(dumped, at, at + 2)
    if varargs % 2 == HAS_PARAMETER_ARG and varargs < NEEDS_ARG and parameters > SAFE_PARAMETERS then
        return nil, line, parameters
    end
    at = at + 4
    at = at + int_bytes + unsigned(dumped, at, int_bytes) * instruction_bytes
    local constants = unsigned(dumped, at, int_bytes)
    at = at + int_bytes
    for _ = 1, constants do
        local kind = byte(dumped, at)
        at = at + 1
        if kind == NUMBER then
            at = at + number_bytes
        elseif kind == BOOLEAN then
            at = at + 1
        elseif kind ~= NIL then
            at = behind_string(dumped, at)
        end
    end
    local functions = unsigned(dumped, at, int_bytes)
    at = at + int_bytes
    for _ = 1, functions do
        local problem_line, problem_parameters
        at, problem_line, problem_parameters = behind_function(dumped, at)
        if not at then
            return nil, problem_line, problem_parameters
        end
    end
    at = at + int_bytes + unsigned(dumped, at, int_bytes) * int_bytes           -- lines
    local variables = unsigned(dumped, at, int_bytes)
    at = at + int_bytes
    for _ = 1, variables do
        at = behind_string(dumped, at) + 2 * int_bytes
    end
    local upvalues = unsigned(dumped, at, int_bytes)
    at = at + int_bytes
    for _ = 1, upvalues do
        at = behind_string(dumped, at)
    end
    return at
end

-- Why a compiled chunk must not be run, or nil. Raises if the memory or the stack is full.
local function danger(chunk)
    local at, line, parameters = behind_function(dump(chunk), HEADER_BYTES + 1)
    if not at then
        return format("%s:%d: function has %d parameters in front of '...' (at most %d are safe in Lua 5.1)",
                      getinfo(chunk, 'S').short_src, line, parameters, SAFE_PARAMETERS)
    end
end

-- The compiler may walk a list of all earlier jumps for each of these words.
local JUMPS, JUMPS_MAX, JUMP_BYTES = {'and', 'or', 'elseif', 'break'}, 4000, 4
local function has_many_jumps(text)
    local count = 0
    for index = 1, #JUMPS do
        local word, from, _ = '%f[%w_]' .. JUMPS[index] .. '%f[^%w_]', 0
        repeat
            _, from = find(text, word, from + 1)
            count = count + 1
            if count > JUMPS_MAX + index then
                return true
            end
        until not from
    end
    return false
end

-- The compiler looks for each name among the local variables and upvalues of all enclosing functions, one by one. These
-- comparisons are limited to LOOKUPS_MAX; a million take about 0.5 ms. Texts up to LOOKUP_BYTES are not counted.
local LOOKUPS_MAX, LOOKUP_BYTES = 2e7, 2^13
local LOCALS_MAX, UPVALUES_MAX = 200, 60           -- of one function
local OPENS, CLOSES, DECLARES, FUNCTION = 1, 2, 3, 4
local KEYWORDS = {['do'] = OPENS, ['if'] = OPENS, ['repeat'] = OPENS, ['end'] = CLOSES, ['until'] = CLOSES,
                  ['local'] = DECLARES, ['for'] = DECLARES, ['function'] = FUNCTION,
                  ['and'] = 0, ['break'] = 0, ['else'] = 0, ['elseif'] = 0, ['false'] = 0, ['in'] = 0, ['nil'] = 0,
                  ['not'] = 0, ['or'] = 0, ['return'] = 0, ['then'] = 0, ['true'] = 0, ['while'] = 0}
local HIDDEN = 3                                    -- hidden locals: 3 of a `for`; self and arg of a function
local QUOTE, APOSTROPHE, BRACKET, MINUS, EQUALS = byte('"\'[-=', 1, 5)
local TOKEN = '^[^%a_\'"%[%-=]*([%a_\'"%[%-=][%w_]*)'
local IN_STRING = {[QUOTE] = '[\\"\n\r]', [APOSTROPHE] = "[\\'\n\r]"}

-- The position after the string, comment or long bracket that begins at `at`; nil if it does not end (the compiler stops).
local function behind_literal(text, at, opener)
    if IN_STRING[opener] then
        local mark
        while true do
            at = find(text, IN_STRING[opener], at + 1)
            mark = at and byte(text, at)
            if mark == opener then
                return at + 1
            elseif mark ~= 92 then                  -- '\\'
                return nil
            end
            local _, pair = find(text, '^[\n\r][\n\r]', at + 1)
            at = pair and byte(text, pair) ~= byte(text, pair - 1) and pair or at + 1
        end
    end
    local _, bracket, level = find(text, opener == MINUS and '^%-%-%[(=*)%[' or '^%[(=*)%[', at)
    if bracket then
        local _, stop = find(text, ']' .. level .. ']', bracket + 1, true)
        return stop and stop + 1
    elseif opener == MINUS and byte(text, at + 1) == MINUS then
        local line_end = find(text, '[\n\r]', at)
        return line_end
    end
    return at + 1
end
internal.behind_literal = behind_literal

-- An upper bound of the comparisons, close to their number; stops counting above LOOKUPS_MAX.
local function lookups(text)
    local at, total, depth, declares = 1, 0, 0, false
    -- seen: variables of all open functions that are visible here. own, blocks: of each open function, its local variables
    -- and its open blocks.
    local seen, own, blocks = 0, {[0] = 0}, {[0] = 0}
    while total <= LOOKUPS_MAX do
        local _, stop, token = find(text, TOKEN, at)
        if not stop then
            break
        end
        local first, kind = byte(token), KEYWORDS[token]
        at = stop + 1
        if first == EQUALS then
            declares, at = false, stop - #token + 2
        elseif IN_STRING[first] or first == BRACKET or first == MINUS then
            at = behind_literal(text, stop - #token + 1, first)
            if not at then
                break
            end
        elseif not kind then
            total = total + seen + HIDDEN
            if declares and own[depth] < LOCALS_MAX then
                own[depth], seen = own[depth] + 1, seen + 1
            end
        else
            declares = kind >= DECLARES
            if kind == FUNCTION then
                depth = depth + 1
                own[depth], blocks[depth], seen = HIDDEN, 0, seen + HIDDEN + UPVALUES_MAX
            elseif kind == OPENS then
                blocks[depth] = blocks[depth] + 1
            elseif kind == CLOSES and blocks[depth] > 0 then
                blocks[depth] = blocks[depth] - 1
            elseif kind == CLOSES and depth > 0 then
                seen, depth = seen - own[depth] - UPVALUES_MAX, depth - 1
            end
        end
    end
    return total
end

-- A rougher upper bound that is much quicker to compute: all names times all variables that all functions could have.
local function lookups_at_worst(text)
    local _, names = gsub(text, '[%a_][%w_]*', '')
    local functions, from, _ = 0, 0, nil
    repeat
        functions = functions + 1
        _, from = find(text, 'function', from + 1, true)
    until not from
    return names * (LOCALS_MAX + UPVALUES_MAX) * functions
end

-- Like loadstring, but refuses code that is unsafe to run. Raises nothing but KILL. The init script (`is_script`) may
-- take long to compile. As in Lua's own loader of files, a byte order mark and a first line with `#` are no code there.
local BYTECODE = 27
function internal.load_text(text, name, is_script)
    if is_script then
        text = gsub(gsub(text, '^\239\187\191', ''), '^#[^\n]*', '')
    end
    if byte(text, 1) == BYTECODE then
        if sub(text, 2, 4) == 'Lua' then
            return nil, 'attempt to load a binary chunk (only text is allowed)'
        end
        return nil, "unexpected symbol near 'char(27)' (an arrow key? there is no line editing here)"
    end
    if #text > JUMPS_MAX * JUMP_BYTES and not is_script and has_many_jumps(text) then
        return nil, 'the code is too long (more than ' .. JUMPS_MAX .. ' of and, or, elseif, break)'
    end
    if #text > LOOKUP_BYTES and not is_script and lookups_at_worst(text) > LOOKUPS_MAX and lookups(text) > LOOKUPS_MAX then
        return nil, format('the code is too long (too many names inside of too many functions and local variables: more than '
                           .. '%d million lookups)', LOOKUPS_MAX / 1e6)
    end
    local chunk, message = loadstring(text, name)
    if not chunk then
        chunk, message = internal.load_with_literals(text, name, message)
        if not chunk then
            return nil, message
        end
    end
    -- A text without these three bytes has no vararg function.
    if find(text, '...', 1, true) then
        local ok, problem = pcall(danger, chunk)
        if not ok and problem == internal.KILL then
            return error(problem, 0)
        elseif problem then
            return nil, problem
        end
    end
    return chunk
end

-- An error's message with the whole name of the script in front. Lua cuts long names, to different lengths.
function internal.with_script_name(message, name)
    if sub(message, 1, #name + 1) == name .. ':' then
        return message
    end
    local tail, rest = match(message, '^%.%.%.([^\n]-)(:%d+: .*)$')
    if tail and sub(name, -#tail) == tail then
        return name .. rest
    end
    return name .. ': ' .. message
end
