-- The module csv: reads and writes comma-separated values. Behaviour: Tarantool 2.6.
-- Needs: kernel/lists, kernel/task, library/modules
local internal = ...
local raw = internal.raw
local byte, char, error, find, format, gsub, setmetatable, sub, tostring, type = raw.byte, raw.char, raw.error, raw.find,
    raw.format, raw.gsub, raw.setmetatable, raw.sub, raw.tostring, raw.type
local pairs, join = raw.pairs, table.concat             -- the users' concat, which can be interrupted

-- Bytes that are read at once, unless the caller says another number. The most that C searches in one call, after which the
-- clock is checked.
local CHUNK, CHUNK_MAX = 4096, 2^14
local SPACE, CR, LF = 32, 13, 10

local function letter(name, value, default)
    if value == nil then
        return default
    elseif type(value) ~= 'string' or value == '' then
        return error('csv: ' .. name .. ' must be a character, got ' .. (value == '' and 'an empty string' or type(value)), 0)
    end
    return byte(value)
end

-- A pattern of these bytes.
local function set_of(...)
    return '[' .. gsub(char(...), '.', function(mark)
        return mark == '\0' and '%z' or find(mark, '%W') and '%' .. mark or mark
    end) .. ']'
end

-- Reading --------------------------------------------------------------------------------------------------------------
--
-- A quote toggles between inside and outside of quotes; behind another quote it is also a part of the value. Spaces around
-- a value do not count, unless they are in quotes.

-- Removes spaces at the right end of a text.
local function stripped(text)
    local last = #text
    while last > 0 and byte(text, last) == SPACE do
        last = last - 1
    end
    return sub(text, 1, last)
end

-- Ends the field. `outside`: what came since the last quote; `done`: what came before that. `is_fresh`: nothing came but
-- spaces; `has_begun`: spaces came.
local function end_field(reader)
    local done, outside = reader.done, reader.outside
    local text = stripped(join(outside))
    reader.row[#reader.row + 1] = done and join(done) .. text or text
    reader.done, reader.outside, reader.is_fresh = nil, {}, true
end

local function end_row(reader)
    reader.rows[#reader.rows + 1] = reader.row
    reader.row, reader.has_begun = {}, false
end

local function take_text(reader, text)
    if reader.in_quotes then
        reader.done[#reader.done + 1] = text
        return
    elseif reader.is_fresh then
        local first = find(text, '[^ ]')
        if not first then
            reader.has_begun = true
            return
        end
        text = sub(text, first)
    end
    reader.is_fresh = false
    reader.outside[#reader.outside + 1] = text
end

local function take_quote(reader)
    local done = reader.done
    if not done then
        done = {}
        reader.done = done
    end
    if not reader.in_quotes and #reader.outside > 0 then
        done[#done + 1] = join(reader.outside)
        reader.outside = {}
    end
    if reader.previous == reader.quote then
        done[#done + 1] = char(reader.quote)
        reader.previous = 0
    else
        reader.previous = reader.quote
    end
    reader.in_quotes, reader.is_fresh = not reader.in_quotes, false
end

local function feed(reader, chunk)
    local at = 1
    while at <= #chunk do
        local stop = find(chunk, reader.marks, at) or #chunk + 1
        if stop > at then
            take_text(reader, sub(chunk, at, stop - 1))
            reader.previous = byte(chunk, stop - 1)
        end
        local mark = byte(chunk, stop)
        if not mark then
            return
        elseif mark == reader.quote then
            take_quote(reader)
        elseif reader.in_quotes then
            reader.done[#reader.done + 1] = char(mark)
            reader.previous = mark
        elseif mark == reader.delimiter then
            if mark == SPACE and reader.is_fresh then
                reader.has_begun = true
            else
                end_field(reader)
            end
            reader.previous = mark
        elseif mark ~= reader.previous and (reader.previous == CR or reader.previous == LF) then
            reader.previous = 0                 -- the second half of the end of a line
        else
            end_field(reader)
            end_row(reader)
            reader.previous = mark
        end
        at = stop + 1
    end
end

-- An unfinished row counts, unless there is a text in open quotes.
local function finish(reader)
    reader.ended = true
    local is_open = reader.in_quotes and reader.previous ~= reader.quote
    if not is_open and (#reader.row > 0 or reader.has_begun or not reader.is_fresh) then
        end_field(reader)
        end_row(reader)
    end
end

-- A source that reads from a text.
local function source_of(text)
    local at = 1
    return {read = function(_, count)
        local piece = sub(text, at, at + count - 1)
        at = at + count
        return piece
    end}
end

-- The next row, or nil. Calls the source's read().
local function next_row(reader)
    while reader.at > #reader.rows do
        if reader.ended then
            return nil
        end
        reader.rows, reader.at = {}, 1
        local chunk = reader.source:read(reader.chunk_size)
        if chunk == nil or chunk == '' then
            finish(reader)
        elseif type(chunk) ~= 'string' then
            return error('csv: read() must return a string, got ' .. type(chunk), 0)
        else
            for from = 1, #chunk, CHUNK_MAX do
                feed(reader, sub(chunk, from, from + CHUNK_MAX - 1))
                internal.look()
            end
        end
    end
    local row = reader.rows[reader.at]
    reader.at = reader.at + 1
    return row
end

-- Readers by the tables that users get. So users cannot change them.
local readers = setmetatable({}, {__mode = 'k'})

local function step(handle, index)
    local reader = readers[handle]
    local row = reader and next_row(reader)
    if row then
        return index + 1, row
    end
end

local csv = {}
internal.modules.csv = csv

-- Iterates over (number, row) of a text, or of an object with a method read(count).
function csv.iterate(source, options)
    if type(source) == 'string' then
        source = source_of(source)
    elseif type(source) ~= 'table' and type(source) ~= 'userdata' or type(source.read) ~= 'function' then
        return error('Usage: load(string or object with method read(num)returns string)', 0)
    end
    options = options or {}
    if type(options) ~= 'table' then
        return error('csv: options must be a table, got ' .. type(options), 0)
    end
    local size, skip = options.chunk_size or CHUNK, options.skip_head_lines or 0
    if type(size) ~= 'number' or type(skip) ~= 'number' then
        return error('csv: chunk_size and skip_head_lines must be numbers', 0)
    end
    local delimiter, quote = letter('delimiter', options.delimiter, 44), letter('quote_char', options.quote_char, 34)
    local reader = {source = source, chunk_size = size >= 1 and size or CHUNK, delimiter = delimiter, quote = quote,
                    marks = set_of(delimiter, quote, CR, LF), rows = {}, at = 1, row = {}, outside = {}, is_fresh = true,
                    has_begun = false, in_quotes = false, previous = 0}
    for _ = 1, skip do
        if not next_row(reader) then
            break
        end
    end
    local handle = {}
    readers[handle] = reader
    return step, handle, 0
end

-- The list of all rows.
function csv.load(...)
    local rows = {}
    for index, row in csv.iterate(...) do
        rows[index] = row
    end
    return rows
end

-- Writing --------------------------------------------------------------------------------------------------------------

-- Whether a text has one of these bytes, and the text with doubled quotes. In steps: C cannot be interrupted.
local function looked_at(text, marks, quote)
    local has_marks, pieces = false, {}
    for from = 1, #text, CHUNK_MAX do
        local piece = sub(text, from, from + CHUNK_MAX - 1)
        has_marks = has_marks or find(piece, marks) ~= nil
        pieces[#pieces + 1] = gsub(piece, quote, '%0%0')
        if #text > CHUNK_MAX then
            internal.look()
        end
    end
    return has_marks, join(pieces)
end

-- A table of values, or of tables of values, as text; with a writer nothing, but a call of its write() for each line.
function csv.dump(list, options, writer)
    if type(list) ~= 'table' or writer ~= nil and type(writer.write) ~= 'function' then
        return error('Usage: dump(table[, opts, writable])', 0)
    end
    options = options or {}
    if type(options) ~= 'table' then
        return error('csv: options must be a table, got ' .. type(options), 0)
    end
    local delimiter, quote = letter('delimiter', options.delimiter, 44), letter('quote_char', options.quote_char, 34)
    local marks, quotes = set_of(delimiter, CR, LF), set_of(quote)
    delimiter, quote = char(delimiter), char(quote)
    local lines = {}
    for _, row in pairs(type(list[1]) == 'table' and list or {list}) do
        if type(row) ~= 'table' then
            return error(format("bad argument #1 to 'pairs' (table expected, got %s)", type(row)), 0)
        end
        local fields = {}
        for _, value in pairs(row) do
            local has_marks, text = looked_at(tostring(value), marks, quotes)
            fields[#fields + 1] = has_marks and quote .. text .. quote or text
        end
        local line = join(fields, delimiter) .. '\n'
        if writer then
            writer:write(line)
        else
            lines[#lines + 1] = line
        end
    end
    if not writer then
        return join(lines)
    end
end
