-- Writes plain documents as YAML, in one pass, without libyaml's emitter.
--
-- Plain values are numbers, booleans, nil, printable ASCII, and tables of these, each table once. For other values these
-- functions return nil, and the value leaves Lua as a tagged string (packed.lua) for the emitter.
-- Invariant: both ways write the same bytes; tests/values/test_output.py compares them.
--
-- Longer than usual: the writers of the styles call each other for each value, as locals.
-- Needs: kernel/guard, wire/order
local internal = ...
local raw = internal.raw
local NULL = internal.NULL
local concat, find, format, gsub, huge, next, remove, rep, setmetatable, sub, tonumber, type = raw.concat, raw.find, raw.format,
    raw.gsub, raw.huge, raw.next, raw.remove, raw.rep, raw.setmetatable, raw.sub, raw.tonumber, raw.type
local getmetatable = raw.debug_getmetatable     -- whatever __metatable says

local items, is_only_order = internal.order.items, internal.order.is_only_order
local yaml = {}
internal.yaml = yaml

-- libyaml folds a scalar at the first single space after this column.
local BEST_WIDTH = 80
-- A longer string goes to the emitter, which writes it in pieces.
local LONG = 2^16
yaml.LONG = LONG
-- A longer key is written as a complex one ("? key").
local SIMPLE_KEY_MAX = 100

-- Numbers -------------------------------------------------------------------------------------------------------------

-- As Tarantool 2.6 writes them: whole numbers that fit 64 bits in full, all others with 14 digits.
local WHOLE_MIN, WHOLE_MAX = -2^63, 2^64
local SHORT_MAX = 1e14      -- below it, %.14g writes a whole number in full, and so does table.concat
local function number_text(value)
    if value % 1 == 0 and value < WHOLE_MAX and value >= WHOLE_MIN then
        if value < SHORT_MAX and value > -SHORT_MAX then
            local text = value .. ''
            return text == '-0' and '0' or text
        end
        return format('%.0f', value)
    end
    return value .. ''
end
yaml.number_text = number_text

-- The same with another number of digits, as a serializer's settings may ask for.
function yaml.number_with_digits(value, digits)
    if digits == 14 or value % 1 == 0 and value < WHOLE_MAX and value >= WHOLE_MIN then
        return number_text(value)
    end
    return format('%.' .. digits .. 'g', value)
end

-- Strings -------------------------------------------------------------------------------------------------------------

-- Words that Tarantool's YAML reader does not read back as strings.
local WORDS = {['true'] = true, ['false'] = true, ['null'] = true, ['~'] = true, ['yes'] = true, ['no'] = true}

-- Whether strtod or LuaJIT read a text as a number: Tarantool quotes strings for which lua_isnumber() is true.
local function is_numeric(text)
    local value = tonumber(text)
    if value ~= nil then
        return not find(text, '(', 1, true)
    end
    local bits = raw.match(text, '^%s*[+-]?0[bB]([01]+)%s*$')
    return bits ~= nil and #bits <= 64
end
yaml.is_numeric = is_numeric

local function is_plain(text)
    -- Not plain: begins with an indicator, ends in a space or colon, or contains the start of a value or comment.
    if find(text, '^[#,%[%]{}&*!|>\'"%%@` ]') or find(text, '[ :]$') or find(text, ': ', 1, true)
       or find(text, ' #', 1, true) then
        return false
    end
    if find(text, '^[-?:]') then
        local second = sub(text, 2, 2)
        if second == '' or second == ' ' then
            return false
        end
        if sub(text, 1, 3) == '---' then
            return false
        end
    elseif sub(text, 1, 3) == '...' then
        return false
    end
    return not WORDS[text] and not is_numeric(text)
end

-- Breaks lines as libyaml does, at a single space after column 80. `column`: where the scalar starts.
local function fold(text, column, indent, quoted)
    local pieces, count, from, position = {}, 0, 1, 1
    local last = #text
    while true do
        local at = find(text, ' ', position, true)
        if not at then
            break
        end
        -- libyaml never breaks at the first or last character inside the quotes.
        local edge = quoted and (at == 2 or at == last - 1)
        if not edge and column + at - from > BEST_WIDTH and sub(text, at + 1, at + 1) ~= ' '
           and sub(text, at - 1, at - 1) ~= ' ' then
            count = count + 1
            pieces[count] = sub(text, from, at - 1)
            from, column = at + 1, indent
        end
        position = at + 1
    end
    if count == 0 then
        return text
    end
    pieces[count + 1] = sub(text, from)
    return concat(pieces, '\n' .. rep(' ', indent))
end

-- Cache: texts of scalars by value. A text is kept only if it is the same at every column where it can start, so that it
-- never needs folding.
local KEPT_LENGTH, KEPT_COUNT = 64, 4096
local known, kept = {}, 0
local function keep(value, text)
    if kept >= KEPT_COUNT then
        known, kept = {}, 0
        return
    end
    known[value] = text
    kept = kept + 1
end

-- A string as a YAML scalar that starts at `column` and continues at `indent`; nil if it needs the emitter.
local function string_text(value, column, indent)
    if #value > LONG or find(value, '[^ -~]') then
        return nil
    end
    local text = value
    if value ~= '' and not is_plain(value) then
        text = "'" .. gsub(value, "'", "''") .. "'"
    end
    if not find(text, ' ', 1, true) then
        if #value <= KEPT_LENGTH then
            keep(value, text)
        end
    elseif column + #text > BEST_WIDTH then
        return fold(text, column, indent, #text ~= #value)
    elseif #text + KEPT_LENGTH < BEST_WIDTH and column < KEPT_LENGTH then
        keep(value, text)
    end
    return text
end

-- Plain documents -----------------------------------------------------------------------------------------------------

local DEEPEST = 20
-- Line breaks before a key and before an item, by indent.
local BREAKS, ITEM_BREAKS = {}, {}
for indent = 0, 2 * DEEPEST + 4, 2 do
    BREAKS[indent] = '\n' .. rep(' ', indent)
    ITEM_BREAKS[indent] = BREAKS[indent] .. '- '
end

-- A table is a list up to this highest index, and above it while at most half of its places are empty.
local SPARSE_SAFE, SPARSE_RATIO = 10, 2

-- The length of a table that is shown as a list, or nil for a map. Counts as Tarantool's serializer does. Up to a highest
-- index of `sparse_max`, a list can be sparse to any degree. Returns nil and true for a list that is too sparse by `ratio`.
local function list_length(value, sparse_max, ratio)
    local size, max = 0, 0
    for key in next, value do
        size = size + 1
        if key ~= size then
            if type(key) ~= 'number' or key < 1 or key % 1 ~= 0 then
                return nil
            end
        end
        if key > max then
            max = key
        end
    end
    if max > SPARSE_SAFE and max > size * (ratio or SPARSE_RATIO) and max > (sparse_max or 0) then
        return nil, true
    end
    return max
end
yaml.list_length = list_length

local write_table

-- The text of a scalar that starts at `column` and continues at `indent`; nil for tables and values that need the emitter.
local function scalar_text(value, column, indent)
    local kind = type(value)
    if kind == 'string' then
        return string_text(value, column, indent)
    elseif kind == 'number' then
        local text = number_text(value)
        if value == value and 1 / value ~= -huge then
            keep(value, text)
        end
        return text
    elseif kind == 'boolean' then
        return value and 'true' or 'false'
    elseif value == nil or value == NULL then
        return 'null'
    end
end

-- Buffers in which documents are built, reused to save allocations. A task takes one; if it is preempted, another task
-- makes a new one. Taking is one C call, so two tasks never take the same.
local BUFFER_MAX = 1024
local spare_pieces, spare_texts = {{}}, {{}}

-- The writers append to `out` and return its new count, or nil if the document is not plain. The first item or key goes to
-- the current position, each other one to a new line at column `indent`. `seen`: the tables met so far, from the second
-- table on.

-- Writes a list without holes whose items all have texts in the cache, which is the usual case. Returns nil for other
-- lists.
local function write_known_list(out, count, list, indent)
    local texts = remove(spare_texts) or {}
    local size = 0
    for key, value in next, list do
        size = size + 1
        local text = known[value]
        if key ~= size or text == nil or text == '' then
            spare_texts[1] = texts
            return nil
        end
        texts[size] = text
    end
    out[count + 1] = '- '
    out[count + 2] = concat(texts, ITEM_BREAKS[indent], 1, size)
    if size <= BUFFER_MAX then
        spare_texts[1] = texts
    end
    return count + 2
end

local function write_list(out, count, list, length, indent, seen)
    local line = ITEM_BREAKS[indent]
    out[count + 1] = '- '
    for index = 1, length do
        local value = list[index]
        local text = known[value]
        if index > 1 then
            out[count + 1] = line
        end
        if text == nil then
            if type(value) == 'table' then
                seen = seen or {[list] = true}
                count = write_table(out, count + 1, value, indent + 2, indent + 2, seen)
                if not count then
                    return nil
                end
            else
                text = scalar_text(value, indent + 2, indent + 2)
                if text == nil then
                    return nil
                end
            end
        end
        if text == '' then
            -- The emitter writes no space after the "-" of an empty scalar.
            count = count + 1
            out[count] = sub(out[count], 1, -2)
        elseif text then
            out[count + 2] = text
            count = count + 2
        end
    end
    return count
end

-- Cache by indent and key: the text before a value, from the line break to the space.
local BY_INDENT = {__index = function(self, indent)
    self[indent] = {}
    return self[indent]
end}
local known_keys, keys_kept = setmetatable({}, BY_INDENT), 0

local function key_text(key, indent)
    local text
    if key == '' then
        text = "''"
    else
        text = scalar_text(key, 0, 0)
    end
    if not text or #text > SIMPLE_KEY_MAX or find(text, '\n', 1, true) then
        return nil
    end
    text = BREAKS[indent] .. text .. ': '
    if #text <= KEPT_LENGTH and key == key then
        if keys_kept >= KEPT_COUNT then
            known_keys, keys_kept = setmetatable({}, BY_INDENT), 0
        end
        known_keys[indent][key] = text
        keys_kept = keys_kept + 1
    end
    return text
end

local function write_map(out, count, map, indent, seen, meta)
    local names = known_keys[indent]
    local start = count + 1
    local step, state = next, map
    if meta then
        step, state = items(map)
    end
    for key, value in step, state do
        local name, text = names[key], nil
        if name then
            -- A cached name is short, so a cached text after it needs no folding.
            text = known[value]
        else
            name = key_text(key, indent)
            if name == nil then
                return nil
            end
        end
        if text == nil then
            if type(value) == 'table' then
                seen = seen or {[map] = true}
                out[count + 1] = sub(name, 1, -2)
                count = write_table(out, count + 1, value, indent, indent + 2, seen, true)
                if not count then
                    return nil
                end
            else
                text = scalar_text(value, #name - 1, indent + 2)
                if text == nil then
                    return nil
                end
            end
        end
        if text == '' then
            count = count + 1
            out[count] = sub(name, 1, -2)
        elseif text then
            out[count + 1] = name
            out[count + 2] = text
            count = count + 2
        end
    end
    if count < start then
        -- Another session has emptied the table meanwhile.
        out[start] = '[]'
        return start
    end
    -- The first key is written at the current position, so its line break is removed.
    out[start] = sub(out[start], indent + 2)
    return count
end

-- Writes a table in a list or on its own, or as the value of a key (`after_key`). After a key, a list is at the key's
-- column, and a map is indented.
function write_table(out, count, value, list_indent, map_indent, seen, after_key)
    local meta = getmetatable(value)
    if meta ~= nil and not is_only_order(meta) or map_indent > 2 * DEEPEST then
        return nil
    end
    if seen then
        if seen[value] then
            return nil
        end
        seen[value] = true
    end
    local first = next(value)
    if first == nil then
        out[count + 1] = after_key and ' []' or '[]'
        return count + 1
    end
    local length
    if type(first) == 'number' then
        if not after_key then
            local last = write_known_list(out, count, value, list_indent)
            if last then
                return last
            end
        end
        length = list_length(value)
    end
    if after_key then
        count = count + 1
        out[count] = BREAKS[length and list_indent or map_indent]
    end
    if length then
        return write_list(out, count, value, length, list_indent, seen)
    end
    return write_map(out, count, value, map_indent, seen, meta)
end

local function finish(out, last)
    if not last then
        return nil
    end
    out[last + 1] = '\n...\n'
    local document = concat(out, '', 1, last + 1)
    if last < BUFFER_MAX then
        spare_pieces[1] = out
    end
    return document
end

local function start(text)
    local out = remove(spare_pieces) or {}
    out[1] = text
    return out
end

-- A list of `count` values as a YAML document, or nil if it is not plain.
function yaml.list(values, count)
    local out = start('---\n')
    return finish(out, write_list(out, 1, values, count, 0))
end

-- The same for a list of one table.
function yaml.table(value)
    local out = start('---\n- ')
    return finish(out, write_table(out, 1, value, 2, 2))
end

-- A single value as a document, as a push sends it.
function yaml.value(value)
    if type(value) ~= 'table' or getmetatable(value) ~= nil then
        return nil
    end
    local length = list_length(value)
    if length == 0 then
        return '--- []\n...\n'
    end
    local out = start('---\n')
    if length then
        return finish(out, write_list(out, 1, value, length, 0))
    end
    return finish(out, write_map(out, 1, value, 0))
end

yaml.known_text = function(value)
    return known[value]
end
yaml.string_text = string_text
