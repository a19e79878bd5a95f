-- Names that a mistyped name may stand for.
-- Needs: kernel/raw
local internal = ...
local raw = internal.raw
local byte, concat, find, gsub, sort, sub = raw.byte, raw.concat, raw.find, raw.gsub, raw.sort, raw.sub
local lower = raw.lower

-- Longer names are not compared, and at most so many are told.
local LONGEST, TOLD = 64, 4

-- Whether one word becomes the other if a character is added, left out, replaced, or swapped with the next.
local function is_misspelt(a, b)
    local same = 0
    while same < #a and byte(a, same + 1) == byte(b, same + 1) do
        same = same + 1
    end
    a, b = sub(a, same + 1), sub(b, same + 1)
    return sub(a, 2) == b or a == sub(b, 2) or sub(a, 2) == sub(b, 2)
        or sub(a, 3) == sub(b, 3) and byte(a, 1) == byte(b, 2) and byte(a, 2) == byte(b, 1)
end

-- The names of a list that are like `name`, joined; '' if there is none.
function internal.alike(name, list)
    local word, found = lower(gsub(name, ':', '.') .. ''), {}
    if #word < 2 or #word > LONGEST then
        return ''
    end
    for at = 1, #list do
        local known = lower(gsub(list[at], '^\\', '') .. '')
        local last = gsub(known, '^.*%.', '') .. ''
        -- A part of a name is enough, and so is the last part of the name of a function in an object.
        if #known <= LONGEST and (find(known, word, 1, true) or is_misspelt(word, known) or is_misspelt(word, last)) then
            found[#found + 1] = list[at]
        end
    end
    sort(found)
    return concat(found, ', ', 1, #found > TOLD and TOLD or #found)
end
