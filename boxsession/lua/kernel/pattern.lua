-- find, match, gmatch and gsub of Lua 5.1, written in Lua. The C functions cannot be interrupted; these are used if the C
-- functions could take too long, which is_costly() decides. Results and error messages are the same as in C.
--
-- A pattern becomes a chain of closures, one for each item. A closure takes a position and returns the end of the match, or
-- nil. Invariants:
-- * The text and the captures are upvalues of the chain. So a chain serves one call at a time, and is taken out of the pool
--   for it: the hook may switch to another session at any instruction.
-- * Long runs are scanned by the C find over blocks of the text, with one item without a quantifier. So no VM instruction
--   does more than one block's work.
--
-- Longer than usual: the closures of a pattern share the text and the captures as upvalues; a split into two files would
-- cost a table lookup at each step of a match.
-- Needs: kernel/raw
local internal = ...
local raw = internal.raw
local byte, char, concat, error, find, floor, gmatch, gsub, match, remove, sub, type, unpack = raw.byte, raw.char,
    raw.concat, raw.error, raw.find, raw.floor, raw.gmatch, raw.gsub, raw.match, raw.remove, raw.sub, raw.type,
    raw.unpack

local pattern = {}
internal.pattern = pattern

local BLOCK = 1024
local SOURCE_MAX = 32       -- a longer set is slow in C, which compares each byte with each member
local CAPTURES_MAX = 32
local CACHE_MAX = 512
local POOL_MAX = 128
local POOLED_PATTERN_MAX = 256
local PIECES_MAX = 4096

local LEFT, RIGHT, STAR, PLUS, MINUS, OPTION, CARET, DOLLAR, ESCAPE, DOT, BRACKET, CLOSE = byte('()*+-?^$%.[]', 1, -1)
local BALANCE, FRONTIER, ZERO, NINE = byte('bf09', 1, -1)

-- Items: pattern parts that match one byte ------------------------------------------------------------------------------

local every_byte
do
    local bytes = {}
    for code = 0, 255 do
        bytes[code + 1] = char(code)
    end
    every_byte = concat(bytes)
end

-- A byte as an item or as a member of a set. (%a is a class.)
local function escaped(code)
    local sign = char(code)
    return find(sign, '%w') and sign or '%' .. sign
end

local items, item_count = {}, 0

-- Makes an item: {has, byte or any, source, inverse, weight}. `has`: set of the bytes that it matches, found by C's
-- matcher. `byte`: the only byte that it matches. `any`: matches every byte. `inverse`: pattern of the other bytes, or
-- nil if C has none that is quick. `weight`: cost of one test in C.
local function make_item(source)
    local first = byte(source, 1)
    local item = {source = source, has = {}, weight = 1}
    local members = {}
    if #source == 1 and first ~= DOT then
        item.byte = first
    elseif first == ESCAPE and find(source, '%W', 2) then
        item.byte = byte(source, 2)
    end
    if item.byte then
        item.has[item.byte] = true
        item.source = char(item.byte)
        item.inverse = '[^' .. escaped(item.byte) .. ']'
        return item
    end
    local others = gsub(every_byte, source, '')
    for code = 0, 255 do
        members[code] = true
    end
    for position = 1, #others do
        members[byte(others, position)] = nil
    end
    item.has = members
    if first == DOT then
        item.any = true
    elseif first == ESCAPE then
        item.weight = 3
        item.inverse = '[^' .. source .. ']'
    else
        item.weight = 1 + #source
        if #source > SOURCE_MAX then
            item.source = nil
        elseif byte(source, 2) ~= CARET then
            item.inverse = '[^' .. sub(source, 2)
        elseif byte(source, 3) ~= CARET then
            item.inverse = '[' .. sub(source, 3)
        end
    end
    return item
end

local function item_of(source)
    local item = items[source]
    if item then
        return item
    end
    item = make_item(source)
    if #source <= SOURCE_MAX then
        if item_count >= CACHE_MAX then
            items, item_count = {}, 0
        end
        items[source] = item
        item_count = item_count + 1
    end
    return item
end

-- Whether no byte matches both items.
local function disjoint(one, other)
    if one.byte then
        return not other.has[one.byte]
    end
    if other.byte then
        return not one.has[other.byte]
    end
    if one.any or other.any then
        return false
    end
    local theirs = other.has
    for code in raw.next, one.has do
        if theirs[code] then
            return false
        end
    end
    return true
end

-- Parsing --------------------------------------------------------------------------------------------------------------

-- The position after the item at `at`, or nil and an error message.
local function item_end(text, at)
    local code = byte(text, at)
    at = at + 1
    if code == ESCAPE then
        if at > #text then
            return nil, "malformed pattern (ends with '%')"
        end
        return at + 1
    end
    if code ~= BRACKET then
        return at
    end
    if byte(text, at) == CARET then
        at = at + 1
    end
    -- A ] in first place is a member.
    repeat
        if at > #text then
            return nil, "malformed pattern (missing ']')"
        end
        at = at + (byte(text, at) == ESCAPE and at < #text and 2 or 1)
    until byte(text, at) == CLOSE
    return at + 1
end

local QUANTIFIERS = {[STAR] = 'max', [PLUS] = 'plus', [MINUS] = 'min', [OPTION] = 'option'}
local QUANTIFIED = {max = true, plus = true, min = true}

-- Parses a pattern into nodes {kind, item, index, ...}. An error in the pattern is a node as well: it is raised only if the
-- match comes that far, as in C. No item is skipped, so the parser knows which captures are open at each item. `captures`
-- has the state of each: 'open', 'closed' or 'position'.
local function parse(text, at)
    -- For C a pattern ends at a zero byte.
    local zero = find(text, '%z')
    if zero then
        text = sub(text, 1, zero - 1)
    end
    local nodes, captures = {}, {}
    local problem
    while at <= #text and not problem do
        local code, following = byte(text, at, at + 1)
        local node
        if code == LEFT then
            local index = #captures + 1
            local is_position = following == RIGHT
            if index > CAPTURES_MAX then
                problem = 'too many captures'
            end
            captures[index] = is_position and 'position' or 'open'
            node = {kind = 'open', index = index}
            at = at + (is_position and 2 or 1)
        elseif code == RIGHT then
            local index = #captures
            while captures[index] and captures[index] ~= 'open' do
                index = index - 1
            end
            if index == 0 then
                problem = 'invalid pattern capture'
            end
            captures[index] = 'closed'
            node = {kind = 'close', index = index}
            at = at + 1
        elseif code == DOLLAR and at == #text then
            node = {kind = 'end'}
            at = at + 1
        elseif code == ESCAPE and following == BALANCE then
            if at + 3 > #text then
                problem = 'unbalanced pattern'
            end
            node = {kind = 'balance', opening = byte(text, at + 2), closing = byte(text, at + 3)}
            at = at + 4
        elseif code == ESCAPE and following == FRONTIER then
            at = at + 2
            local stop
            if byte(text, at) ~= BRACKET then
                problem = "missing '[' after '%f' in pattern"
            else
                stop, problem = item_end(text, at)
            end
            if not problem then
                node = {kind = 'frontier', item = item_of(sub(text, at, stop - 1))}
                at = stop
            end
        elseif code == ESCAPE and following and following >= ZERO and following <= NINE then
            local index = following - ZERO
            if captures[index] == nil or captures[index] == 'open' then
                problem = 'invalid capture index'
            end
            node = {kind = 'back', index = index}
            at = at + 2
        else
            local stop
            stop, problem = item_end(text, at)
            if not problem then
                local kind = QUANTIFIERS[byte(text, stop)]
                node = {kind = kind or 'one', item = item_of(sub(text, at, stop - 1))}
                at = kind and stop + 1 or stop
            end
        end
        nodes[#nodes + 1] = problem and {kind = 'error', message = problem} or node
    end
    captures[0] = nil
    return nodes, captures
end

-- What must match first from nodes[from] on: an item, the node of a final $, or nil if unknown; and the weight of the nodes
-- up to it.
local function follow(nodes, from)
    local weight = 1
    for index = from, #nodes do
        local node = nodes[index]
        local kind = node.kind
        if kind == 'one' or kind == 'plus' then
            return node.item, weight + node.item.weight
        elseif kind == 'balance' then
            return item_of(escaped(node.opening)), weight + 1
        elseif kind == 'end' then
            return node, weight + 1
        elseif kind == 'frontier' then
            weight = weight + 2 * node.item.weight
        elseif kind == 'open' or kind == 'close' then
            weight = weight + 1
        else
            return nil
        end
    end
end

-- Whether a run of `item` before `next_item` can end at one place only: at any earlier place the next byte matches `item`,
-- so it cannot match `next_item`.
local function ends_once(item, next_item)
    return next_item ~= nil and (next_item.kind == 'end' or disjoint(item, next_item))
end

-- The chain of closures --------------------------------------------------------------------------------------------------

-- Whether `length` bytes of two texts are equal. Compares blocks.
local function equal(one, from, other, start, length)
    if byte(one, from) ~= byte(other, start) then
        return length == 0
    end
    for offset = 0, length - 1, BLOCK do
        local last = (offset + BLOCK < length and offset + BLOCK or length) - 1
        if sub(one, from + offset, from + last) ~= sub(other, start + offset, start + last) then
            return false
        end
    end
    return true
end

local function accept(position)
    return position
end

local function build(nodes, captures, anchored)
    local text, length, blocks = '', 0, nil
    local starts, ends = {}, {}
    local resets = {}

    -- Makes a function that returns the first position from `position` on whose byte is in `has` (`wanted`) or not in it,
    -- or the position after the text. It keeps the last answer, so repeated calls inside a run search once.
    local function scanner(has, wanted, source, plain)
        local low, high = 1, 0
        resets[#resets + 1] = function()
            low, high = 1, 0
        end
        if not source then
            return function(position)
                if position >= low and position <= high then
                    return high
                end
                low = position
                while position <= length and (has[byte(text, position)] or false) ~= wanted do
                    position = position + 1
                end
                high = position
                return position
            end
        end
        return function(position)
            if position >= low and position <= high then
                return high
            end
            if position > length then
                return position
            end
            local base = position - 1
            base = base - base % BLOCK
            local block = blocks[base]
            if not block then
                block = sub(text, base + 1, base + BLOCK)
                blocks[base] = block
            end
            local found = find(block, source, position - base, plain)
            while not found do
                base = base + BLOCK
                if base >= length then
                    found = length + 1 - base
                    break
                end
                block = blocks[base]
                if not block then
                    block = sub(text, base + 1, base + BLOCK)
                    blocks[base] = block
                end
                found = find(block, source, 1, plain)
            end
            low, high = position, base + found
            return high
        end
    end
    local function end_of_run(item)
        if item.any then
            return function()
                return length + 1
            end
        end
        return scanner(item.has, false, item.inverse, false)
    end
    local function next_of(item)
        return scanner(item.has, true, item.source, item.byte ~= nil)
    end

    local make = {}

    function make.one(node, rest)
        local code, has = node.item.byte, node.item.has
        if node.literal then
            local literal, size = node.literal, #node.literal
            return function(position)
                if byte(text, position) == code and sub(text, position, position + size - 1) == literal then
                    return rest(position + size)
                end
            end
        end
        if code then
            return function(position)
                if byte(text, position) == code then
                    return rest(position + 1)
                end
            end
        end
        return function(position)
            if has[byte(text, position)] then
                return rest(position + 1)
            end
        end
    end

    function make.option(node, rest)
        local has = node.item.has
        return function(position)
            if has[byte(text, position)] then
                local stop = rest(position + 1)
                if stop then
                    return stop
                end
            end
            return rest(position)
        end
    end

    function make.max(node, rest, next_item, least)
        local item = node.item
        local has, run = item.has, end_of_run(item)
        if rest == accept or ends_once(item, next_item) then
            if least == 0 then
                return function(position)
                    return rest(run(position))
                end
            end
            return function(position)
                if has[byte(text, position)] then
                    return rest(run(position))
                end
            end
        end
        local next_has = next_item and next_item.has
        if next_has then
            return function(position)
                for stop = run(position), position + least, -1 do
                    if next_has[byte(text, stop)] then
                        local last = rest(stop)
                        if last then
                            return last
                        end
                    end
                end
            end
        end
        return function(position)
            for stop = run(position), position + least, -1 do
                local last = rest(stop)
                if last then
                    return last
                end
            end
        end
    end

    function make.plus(node, rest, next_item)
        return make.max(node, rest, next_item, 1)
    end

    function make.min(node, rest, next_item)
        local item = node.item
        if rest == accept then
            return accept
        end
        local has, run = item.has, end_of_run(item)
        if ends_once(item, next_item) then
            return function(position)
                return rest(run(position))
            end
        end
        if next_item then
            local seek = next_of(next_item)
            return function(position)
                local stop = run(position)
                while true do
                    position = seek(position)
                    if position > stop or position > length then
                        return nil
                    end
                    local last = rest(position)
                    if last then
                        return last
                    end
                    position = position + 1
                end
            end
        end
        return function(position)
            while true do
                local last = rest(position)
                if last then
                    return last
                end
                if not has[byte(text, position)] then
                    return nil
                end
                position = position + 1
            end
        end
    end

    -- Backtracking calls these again, so the position set last is the right one.
    function make.open(node, rest)
        local index = node.index
        return function(position)
            starts[index] = position
            return rest(position)
        end
    end

    function make.close(node, rest)
        local index = node.index
        return function(position)
            ends[index] = position
            return rest(position)
        end
    end

    function make.back(node, rest)
        local index = node.index
        if captures[index] == 'position' then
            return function() end
        end
        return function(position)
            local start = starts[index]
            local size = ends[index] - start
            if position + size <= length + 1 and equal(text, position, text, start, size) then
                return rest(position + size)
            end
        end
    end

    function make.balance(node, rest)
        local opening, closing = node.opening, node.closing
        local seek = scanner({[opening] = true, [closing] = true}, true,
            '[' .. escaped(opening) .. escaped(closing) .. ']', false)
        return function(position)
            if byte(text, position) ~= opening then
                return nil
            end
            local depth = 1
            repeat
                position = seek(position + 1)
                if position > length then
                    return nil
                end
                if byte(text, position) == closing then
                    depth = depth - 1
                else
                    depth = depth + 1
                end
            until depth == 0
            return rest(position + 1)
        end
    end

    make['end'] = function(_, rest)
        return function(position)
            if position > length then
                return rest(position)
            end
        end
    end

    -- As in C, the text has a zero byte before its start and after its end.
    function make.frontier(node, rest)
        local has = node.item.has
        return function(position)
            if not has[position > 1 and byte(text, position - 1) or 0] and has[byte(text, position) or 0] then
                return rest(position)
            end
        end
    end

    function make.error(node)
        local message = node.message
        return function()
            return error(message, 0)
        end
    end

    local first = follow(nodes, 1)
    local has_back, leading = false, nil
    for index = 1, #nodes do
        local kind = nodes[index].kind
        has_back = has_back or kind == 'back'
        leading = leading or kind ~= 'open' and nodes[index] or nil
    end

    local chain = accept
    local literal, literal_item = nil, nil      -- the run of single bytes that begins at this node
    local after
    for index = #nodes, 1, -1 do
        local node = nodes[index]
        if node.kind == 'one' and node.item.byte then
            literal = char(node.item.byte) .. (literal or '')
            literal_item = node.item
            after = literal == node.item.source and chain or after
            chain = make.one({item = literal_item, literal = #literal > 1 and literal or nil}, after)
            if #literal >= SOURCE_MAX then
                literal = nil
            end
        else
            literal = nil
            local next_item = QUANTIFIED[node.kind] and follow(nodes, index + 1) or nil
            chain = make[node.kind](node, chain, next_item, 0)
        end
    end

    local matcher = {count = #captures, anchored = anchored}

    -- Sets the text to search; '' releases it.
    function matcher.adopt(new_text)
        text, length, blocks = new_text, #new_text, {}
        for index = 1, #resets do
            resets[index]()
        end
    end

    -- The first match from `position` on: its first position and the position after it.
    if anchored then
        function matcher.search(position)
            local stop = chain(position)
            if stop then
                return position, stop
            end
        end
    elseif first and first.has then
        local seek = next_of(first)
        function matcher.search(position)
            while true do
                position = seek(position)
                if position > length then
                    return nil
                end
                local stop = chain(position)
                if stop then
                    return position, stop
                end
                position = position + 1
            end
        end
    else
        -- A leading `.*` or `.-` tries the rest at every place up to the end. If that fails, later starts fail as well.
        local once = leading and leading.item and leading.item.any and not has_back
            and (leading.kind == 'max' or leading.kind == 'min')
        local last_only = first and first.kind == 'end'
        function matcher.search(position)
            for start = last_only and length + 1 or position, once and position or length + 1 do
                local stop = chain(start)
                if stop then
                    return start, stop
                end
            end
        end
    end

    -- Capture number `index` of the match from `start` to before `stop`; 0 is the whole match.
    local function capture(index, start, stop)
        local state = captures[index]
        if state == 'closed' then
            return sub(text, starts[index], ends[index] - 1)
        elseif state == 'position' then
            return starts[index]
        elseif state == 'open' then
            return error('unfinished capture', 0)
        elseif index == 0 or index == 1 then
            return sub(text, start, stop - 1)
        end
        return error('invalid capture index', 0)
    end
    matcher.capture = capture

    -- The results of a match: its captures, or the whole match if it has none.
    local count = #captures
    if count == 0 then
        function matcher.results(start, stop)
            return (sub(text, start, stop - 1))
        end
    elseif count == 1 then
        function matcher.results(start, stop)
            return (capture(1, start, stop))
        end
    elseif count == 2 then
        function matcher.results(start, stop)
            local one = capture(1, start, stop)
            return one, (capture(2, start, stop))
        end
    else
        function matcher.results(start, stop)
            local list = {}
            for index = 1, count do
                list[index] = capture(index, start, stop)
            end
            return unpack(list, 1, count)
        end
    end
    return matcher
end

-- Matchers that are not in use, in lists by pattern.
local pool, pool_count = {}, 0

local function take(source, text)
    local idle = pool[source]
    -- Taking it is one C call, so no other task can take the same.
    local matcher = idle and remove(idle)
    if not matcher then
        local anchored = byte(source, 1) == CARET
        local nodes, captures = parse(source, anchored and 2 or 1)
        matcher = build(nodes, captures, anchored)
    end
    matcher.adopt(text)
    return matcher
end

local function give_back(source, matcher)
    matcher.adopt('')
    local idle = pool[source]
    if idle then
        idle[1] = matcher
    elseif #source <= POOLED_PATTERN_MAX then
        if pool_count >= POOL_MAX then
            pool, pool_count = {}, 0
        end
        pool[source] = {matcher}
        pool_count = pool_count + 1
    end
end

local function finish(source, matcher, ...)
    give_back(source, matcher)
    return ...
end

-- The functions --------------------------------------------------------------------------------------------------------

local function text_of(value)
    return type(value) == 'number' and value .. '' or value
end

local function are_texts(text, source)
    return type(text) == 'string' and type(source) == 'string'
end

-- Plain search. C searches for the head of `needle`, block by block; the rest is compared here.
local function find_plain(text, needle, position)
    local size = #needle
    local head = size > SOURCE_MAX and sub(needle, 1, SOURCE_MAX) or needle
    while position + size <= #text + 1 do
        local found = find(sub(text, position, position + BLOCK + #head - 2), head, 1, true)
        if found then
            position = position + found - 1
            if position + size > #text + 1 then
                return nil
            end
            if size == #head or equal(text, position, needle, 1, size) then
                return position, position + size - 1
            end
            position = position + 1
        else
            position = position + BLOCK
        end
    end
    return nil
end

function pattern.find(text, source, init, plain)
    text, source = text_of(text), text_of(source)
    if not are_texts(text, source) then
        return find(text, source, init, plain)
    end
    -- C converts `init` to a position, or raises.
    local position = init == nil and 1 or find(text, '()', init)
    if not plain then
        local special, zero = find(source, '[%^%$%*%+%?%.%(%[%%%-]'), find(source, '%z')
        plain = not special or zero and zero < special
    end
    if plain then
        return find_plain(text, source, position)
    end
    local matcher = take(source, text)
    local start, stop = matcher.search(position)
    if not start then
        give_back(source, matcher)
        return nil
    end
    if matcher.count == 0 then
        give_back(source, matcher)
        return start, stop - 1
    end
    return finish(source, matcher, start, stop - 1, matcher.results(start, stop))
end

function pattern.match(text, source, init)
    text, source = text_of(text), text_of(source)
    if not are_texts(text, source) then
        return match(text, source, init)
    end
    local position = init == nil and 1 or match(text, '()', init)
    local matcher = take(source, text)
    local start, stop = matcher.search(position)
    if not start then
        give_back(source, matcher)
        return nil
    end
    return finish(source, matcher, matcher.results(start, stop))
end

function pattern.gmatch(text, source)
    text, source = text_of(text), text_of(source)
    if not are_texts(text, source) then
        return gmatch(text, source)
    end
    -- gmatch has no anchor: a leading ^ is an ordinary byte.
    if byte(source, 1) == CARET then
        source = '%' .. source
    end
    local own, position = {}, 1
    return function()
        if position > #text + 1 then
            return
        end
        local matcher = remove(own) or take(source, text)
        local start, stop = matcher.search(position)
        if not start then
            give_back(source, matcher)
            return
        end
        position = stop > start and stop or stop + 1
        own[1] = matcher
        return matcher.results(start, stop)
    end
end

-- The pieces of a replacement string: texts and capture numbers.
local function parse_replacement(repl)
    local pieces, from = {}, 1
    while true do
        local at = find(repl, '%', from, true)
        if not at then
            pieces[#pieces + 1] = from <= #repl and sub(repl, from) or nil
            return pieces
        end
        local code = byte(repl, at + 1)
        pieces[#pieces + 1] = from < at and sub(repl, from, at - 1) or nil
        if code and code >= ZERO and code <= NINE then
            pieces[#pieces + 1] = code - ZERO
        else
            pieces[#pieces + 1] = char(code or 0)
        end
        from = at + 2
    end
end

-- Converts as C does to an int: drops the fraction, then keeps the low 32 bits.
local function to_int(number)
    if number ~= number or number >= 2^63 or number < -2^63 then
        return 0
    end
    local whole = floor(number)
    if number < 0 and whole ~= number then
        whole = whole + 1
    end
    return (whole + 2^31) % 2^32 - 2^31
end

-- Joins pieces[1..count]. strings.lua replaces this by a function that lets other tasks run.
function pattern.join(pieces, count)
    return concat(pieces, '', 1, count)
end

function pattern.gsub(text, source, repl, max_n)
    text, source = text_of(text), text_of(source)
    local kind = type(repl)
    if not are_texts(text, source) or max_n ~= nil and not raw.tonumber(max_n)
       or kind ~= 'string' and kind ~= 'number' and kind ~= 'table' and kind ~= 'function' then
        return gsub(text, source, repl, max_n)
    end
    local length = #text
    local most = max_n == nil and length + 1 or to_int(raw.tonumber(max_n))
    local parts
    if kind == 'number' then
        repl = repl .. ''
        kind = 'string'
    elseif kind == 'string' and find(repl, '%', 1, true) then
        parts = parse_replacement(repl)
    end
    local matcher = take(source, text)
    local search, capture, results = matcher.search, matcher.capture, matcher.results
    local pieces, size, chunks = {}, 0, {}
    local copied, position, count = 1, 1, 0
    while count < most and position <= length + 1 do
        local start, stop = search(position)
        if not start then
            break
        end
        count = count + 1
        if copied < start then
            size = size + 1
            pieces[size] = sub(text, copied, start - 1)
        end
        if parts then
            for index = 1, #parts do
                local part = parts[index]
                if type(part) == 'number' then
                    if part == 0 then
                        part = sub(text, start, stop - 1)
                    else
                        part = capture(part, start, stop)
                    end
                end
                size = size + 1
                pieces[size] = part
                if size >= PIECES_MAX then
                    chunks[#chunks + 1] = concat(pieces, '', 1, size)
                    size = 0
                end
            end
        else
            local value = repl
            if kind == 'table' then
                value = repl[capture(1, start, stop)]
            elseif kind == 'function' then
                value = repl(results(start, stop))
            end
            local value_type = type(value)
            if not value then
                value = sub(text, start, stop - 1)
            elseif value_type ~= 'string' and value_type ~= 'number' then
                return error('invalid replacement value (a ' .. value_type .. ')', 0)
            end
            size = size + 1
            pieces[size] = value
        end
        copied = stop
        position = stop > start and stop or stop + 1
        if size >= PIECES_MAX then
            chunks[#chunks + 1] = concat(pieces, '', 1, size)
            size = 0
        end
        if matcher.anchored then
            break
        end
    end
    give_back(source, matcher)
    size = size + 1
    pieces[size] = sub(text, copied)
    chunks[#chunks + 1] = concat(pieces, '', 1, size)
    return pattern.join(chunks, #chunks), count
end

-- Whether C could be slow ------------------------------------------------------------------------------------------------

-- An upper bound of the steps of C's matcher, in units of some 2 ns. `places`: number of positions at which a match can
-- start, which is the text's length plus one.
--
-- A node's cost is the cost of one visit times the number of visits. Before a visit, C has chosen a start (unless the
-- pattern is anchored) and an end for each quantified item before the node, each no earlier than the previous one. With n
-- places, k choices can be made in ways(k) = n (n + 1) ... (n + k - 1) / k! ways. The runs from all visits of a node take
-- at most ways(k + 1) steps. A `?` doubles the ways.
--
-- Not counted as a choice:
-- - A run that ends once (see ends_once). C tries the rest at all its places, but all tries except one fail at the item
--   that cannot match there. The same holds for such a `?`: without its byte the rest fails at once.
-- - A quantified item before a `sure` rest. A sure rest matches wherever it begins, so the first try succeeds. A rest is
--   sure if all of it, to the pattern's end, can be empty; or if it begins with `.*` or `.-` and what follows is sure at
--   the text's end (`ending`). So a sure rest is visited at most once from each start.
--
-- A rest that can be empty and has no $ (`greedy`) is matched in one pass, and the next match begins after the bytes it
-- took. So all these passes together read the text once, plus one byte for each node.
local function steps(nodes, anchored, places)
    local base, base_choices = anchored and 1 or places, anchored and 0 or 1
    local ways, choices, total = base, base_choices, 0
    for index = 1, #nodes do
        local node = nodes[index]
        local kind, weight = node.kind, node.item and node.item.weight or 1
        if node.sure and ways > base then
            ways, choices = base, base_choices
        end
        local wider = ways * (places + choices) / (choices + 1)
        if node.greedy then
            total = total + places * (weight + 1) * 2
        elseif kind == 'max' or kind == 'min' then
            total = total + wider * (weight + 1 + node.once)
            if node.choice then
                ways, choices = wider, choices + 1
            end
        elseif kind == 'balance' then
            total = total + wider * 2
        elseif kind == 'back' then
            total = total + ways * (4 + places / 4)
        else
            total = total + ways * (2 * weight + 1)
            if kind == 'option' then
                total = total + ways * node.once
                ways = node.choice and 2 * ways or ways
            end
        end
    end
    return total
end

-- The longest text, to within an eighth, for which C's matcher stays below STEPS_MAX.
local STEPS_MAX = 4e6
local TEXT_MAX = 2^30
local function longest_text(source)
    local anchored = byte(source, 1) == CARET
    local nodes = {}
    for _, node in raw.ipairs((parse(source, anchored and 2 or 1))) do
        -- X+ is XX*.
        local kind = node.kind
        nodes[#nodes + 1] = {kind = kind == 'plus' and 'one' or kind, item = node.item, opening = node.opening}
        if kind == 'plus' then
            nodes[#nodes + 1] = {kind = 'max', item = node.item}
        end
    end
    local sure, ending, greedy = true, true, true
    for index = #nodes, 1, -1 do
        local node = nodes[index]
        local kind = node.kind
        if kind == 'max' or kind == 'min' or kind == 'option' then
            local next_item, weight = follow(nodes, index + 1)
            local once = ends_once(node.item, next_item)
            node.once = once and weight or 0
            node.choice = not once and not sure
            sure = sure or kind ~= 'option' and node.item.any and ending
        elseif kind == 'end' then
            sure, ending, greedy = false, true, false
        elseif kind ~= 'open' and kind ~= 'close' and kind ~= 'error' then
            sure, ending, greedy = false, false, false
        end
        node.sure, node.greedy = sure, greedy
    end
    local low, high = 0, 64
    while high < TEXT_MAX and steps(nodes, anchored, high + 1) <= STEPS_MAX do
        low, high = high, high * 4
    end
    while high - low > low / 8 and high - low > 1 do
        local middle = floor((low + high) / 2)
        if steps(nodes, anchored, middle + 1) <= STEPS_MAX then
            low = middle
        else
            high = middle
        end
    end
    return low
end

local longest, longest_count = {}, 0

-- Whether C could take longer than some 20 ms on a text of this length. `every_start`: for gmatch, which has no anchor.
-- The time of a replacement is not counted.
local LONGEST_IN_C = 2^22       -- some 10 ms if each byte is read once
function pattern.is_costly(text_length, source, every_start)
    if text_length > LONGEST_IN_C then
        return true
    end
    if every_start and byte(source, 1) == CARET then
        source = '%' .. source
    end
    local most = longest[source]
    if not most then
        most = longest_text(source)
        if longest_count >= CACHE_MAX then
            longest, longest_count = {}, 0
        end
        longest[source] = most
        longest_count = longest_count + 1
    end
    return text_length > most
end
