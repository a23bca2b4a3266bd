-- Managed by smtpout: who a user's message says it is from (smtpout:directory:senders). Changes made here are lost.
--
-- OpenDKIM runs it twice for a message (opendkim-lua(3)): after the headers (SetupPolicyScript), where it judges and
-- exports what is wrong, and at the end (FinalPolicyScript), where alone a reply has words. A broken DKIM-Signature has
-- OpenDKIM stop before that, so with one it is refused at once. A From: that OpenDKIM can't read gets to neither: Postfix
-- refuses it (authors.regexp).
-- An error in it ends OpenDKIM, a running one at its reload. An error while a message is judged puts that off (451).
local OWN = false -- whether From: has to be the sender's own
local NULL = true -- whether Postfix tells whose a login without a sender is
local TOLD = "X-Smtpout-Addresses"
local KEY = "default._domainkey.domain01.dom" -- any of KeyTable
local FREE = { -- who may write with any From:
}
local SEVERAL = "a message has one From: header (RFC 5322, 3.6)"
local OTHER = "From: has to be the address that you send with, and it alone"
local POSES = "the name in From: holds another address than yours"
local NOBODY = "without a sender, From: has to be an address of yours, and it alone"

local login = (odkim.get_mtasymbol(ctx, "{auth_authen}") or ""):lower()
local sender = (odkim.get_envfrom(ctx) or ""):lower()

if odkim.set_reply then -- the end
  local n = 0
  while NULL and login ~= "" and sender == "" and odkim.get_header(ctx, TOLD, n) do
    odkim.del_header(ctx, TOLD, n) -- whatever n is, the first one goes
    n = n + 1
  end
  if refused then
    odkim.set_reply(ctx, "550", "5.7.1", refused)
    odkim.set_result(ctx, SMFIS_REJECT)
  end
  return
end

-- Returns what stands in a header outside of comments, with "\1" for quoted strings, and what stands inside of both;
-- nothing where one has no end.
local function parted(text)
  local outside, inside, at = {}, {}, 1
  while at <= #text do
    local from, open = at, text:sub(at, at)
    local depth = (open == "(" or open == '"') and 1 or 0
    at = at + 1
    while depth > 0 do
      local c = text:sub(at, at)
      if c == "" then
        return nil
      elseif c == "\\" then
        at = at + 1
      elseif open == '"' then
        depth = c == '"' and 0 or 1
      else
        depth = depth + (c == "(" and 1 or c == ")" and -1 or 0)
      end
      at = at + 1
    end
    local whole = text:sub(from, at - 1)
    if open == "(" then
      outside[#outside + 1] = " "
      inside[#inside + 1] = whole:sub(2, -2)
    elseif open == '"' then
      local is_address = text:sub(at, at) == "@" and not whole:find("[<>,:;@]")
      outside[#outside + 1] = is_address and whole or "\1"
      inside[#inside + 1] = whole:sub(2, -2)
    else
      outside[#outside + 1] = open
    end
  end
  return table.concat(outside), table.concat(inside, " ")
end

-- Returns the address of a From: that has one mailbox (RFC 5322, 3.4), and what else it shows; nothing of any other.
local function mailbox(text)
  local outside, inside = parted((text:gsub("[%c]+", " ")))
  if not outside then
    return nil
  end
  local name, address = outside:match("^([^<>,:;]*)<%s*([^<>,:;]-)%s*>%s*$")
  if not address then
    name, address = "", outside:match("^%s*([^<>,:;]-)%s*$")
  end
  local user, domain = (address or ""):match('^(.+)@([^%s@"\1]+)$')
  if not user or user:find("[\1@]") or (user:find('[%s"]') and not user:find('^"[^"]*"$')) then
    return nil
  end
  return address:lower(), name .. " " .. inside
end

local function unbase64(text)
  local letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
  local made, value, size = {}, 0, 0
  for letter in text:gmatch("[%w+/]") do
    value, size = value * 64 + letters:find(letter, 1, true) - 1, size + 6
    if size >= 8 then
      size = size - 8
      made[#made + 1] = string.char(math.floor(value / 2 ^ size))
      value = value % 2 ^ size
    end
  end
  return table.concat(made)
end

-- Returns a text with its encoded words as they are read (RFC 2047).
local function shown(text)
  local joined = text:gsub("%?=%s+=%?", "?==?")
  return (joined:gsub("=%?[^?]*%?([BbQq])%?([^?]*)%?=", function(how, word)
    if how:lower() == "b" then
      return unbase64(word)
    end
    local spaced = word:gsub("_", " ")
    return (spaced:gsub("=(%x%x)", function(hex)
      return string.char(tonumber(hex, 16))
    end))
  end))
end

-- Tells whether an address is one that Postfix has named, above whatever a user may have written there.
local function named(address)
  for each in (odkim.get_header(ctx, TOLD, 0) or ""):lower():gmatch("[^%s,]+") do
    if each == address or each:sub(-#address - 1) == ":" .. address then -- smtp:, of proxyAddresses
      return true
    end
  end
  return false
end

-- Returns what is wrong with who a message says it is from; nothing where that is right.
local function fault()
  if odkim.get_header(ctx, "From", 1) then
    return SEVERAL
  elseif FREE[login] or not (OWN or NULL and sender == "") then
    return nil
  end
  local address, besides = mailbox(odkim.get_header(ctx, "From", 0) or "")
  if sender == "" and not (NULL and address and named(address)) then
    return NOBODY
  elseif sender ~= "" and address ~= sender then
    return OTHER
  end
  for other in shown(besides):lower():gmatch("[^%s<>()\"',;:%[%]]+@[^%s<>()\"',;:%[%]]+%.%w+") do
    if ("'" .. address):sub(-#other - 1) ~= "'" .. other then
      return POSES
    end
  end
end

if login ~= "" then -- servers of the site, devices and strangers are another's matter
  local said = fault()
  if said then
    odkim.export(ctx, "refused", said)
    odkim.log(ctx, "From: of " .. login .. ": " .. said)
    -- What is to be signed isn't verified, and so comes to its end.
    if odkim.get_header(ctx, "DKIM-Signature", 0) or odkim.sign(ctx, KEY) ~= 1 then
      odkim.set_result(ctx, SMFIS_REJECT)
    end
  end
end
