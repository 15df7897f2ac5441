-- The scenario that every client goes through, with Neovim's own client.
--
--   nvim --headless --clean -l nvim.lua COMMAND ARGUMENT…
local protocol = require('harmonyd.protocol')

local command = vim.list_slice(arg, 1)
assert(#command > 0, 'usage: nvim -l nvim.lua COMMAND ARGUMENT…')

local second = 1000
--- wait fails when what it waits for does not come.
---@param what string
---@param done fun(): boolean?
local function wait(what, done)
  assert(vim.wait(60 * second, done, 2), 'waited in vain for ' .. what)
end

---@param want any
---@param got any
---@param what string
local function equal(want, got, what)
  assert(vim.deep_equal(want, got), ('%s: want %s, got %s'):format(what, vim.inspect(want), vim.inspect(got)))
end

--- What has been heard of each generation.
---@type table<string, { text: string, seq: integer, deltas: integer }>
local streams = vim.defaulttable(function() return { text = '', seq = 0, deltas = 0 } end)

local exit_code
local calls = {}
local heard = {}
function heard.notification(method, params)
  if not vim.startswith(method, 'generate/') then
    return
  end
  local s = streams[params.generationId]
  equal(s.seq, params.seq, 'no gap and no change of order')
  s.seq = s.seq + 1
  if method == 'generate/delta' then
    ---@cast params harmonyd.GenerateDelta
    for _, part in ipairs(params.parts) do
      s.text = s.text .. part.text
    end
    s.deltas = s.deltas + 1
  elseif method == 'generate/toolCall' then
    ---@cast params harmonyd.GenerateToolCall
    table.insert(calls, params.name .. ' ' .. params.status)
  end
end
--- Neovim answers a request of the server's with what this returns. It runs in a
--- coroutine, so that it may wait.
function heard.server_request(method, params)
  if method == 'tool/approve' then
    ---@cast params harmonyd.ToolApproveParams
    for _, option in ipairs(params.options) do
      if option.kind == 'allow_once' then
        return { outcome = 'selected', optionId = option.optionId }
      end
    end
  end
  ---@cast params harmonyd.ToolCallParams
  equal({ place = 'Oslo' }, params.arguments, method)
  heard.rpc.notify('tool/progress', { callId = params.callId, message = 'asking', progress = 1, total = 2 })
  local running = coroutine.running()
  vim.defer_fn(function() coroutine.resume(running) end, 50)
  coroutine.yield()
  return { content = { { type = 'text', text = '4 degrees' } } }
end
function heard.on_exit(code) exit_code = code end
function heard.on_error(code, err) error(('client error %s: %s'):format(code, vim.inspect(err))) end

local rpc = vim.lsp.rpc.start(command, heard)
heard.rpc = rpc

--- send sends a request and returns its id and a table that gets its answer.
---@param method string
---@param params table
local function send(method, params)
  local answer = {}
  local ok, id = rpc.request(method, params, function(err, result)
    answer.error, answer.result, answer.done = err, result, true
  end)
  assert(ok, method)
  return answer, id
end

---@return any result, table? err
local function call(method, params)
  local answer = send(method, params)
  wait('the answer to ' .. method, function() return answer.done end)
  return answer.result, answer.error
end

---@param content string
---@return harmonyd.Message[]
local function say(content) return { { role = 'user', content = content } } end

---@param r harmonyd.GenerateResult
local function text(r)
  return table.concat(vim.tbl_map(function(p) return p.text or '' end, r.message.content))
end

local capabilities = vim.lsp.protocol.make_client_capabilities()
capabilities.harmonyd = { protocolVersion = protocol.protocol_version, tools = { call = true, approve = true } }
local opened = call('initialize', {
  processId = vim.uv.os_getpid(), clientInfo = { name = 'nvim' }, capabilities = capabilities,
})
equal(protocol.protocol_version, opened.protocolVersion, 'protocol version')
rpc.notify('initialized', vim.empty_dict())
equal('scripted', call('models/list', vim.empty_dict()).models[1].id, 'model')

-- Generate with streaming.
local answer = call('generate', { generationId = 'a', messages = say('Name three colours.'), tools = {} })
equal('end_turn', answer.stopReason, 'stop reason')
equal(text(answer), streams.a.text, 'the deltas are the answer')
assert(streams.a.deltas > 1 and streams.a.deltas < answer.usage.completionTokens, 'in batches')

-- Cancel by the method, and as Neovim's clients cancel any request.
local story = send('generate', { generationId = 'b', messages = say('Tell me a story.'), tools = {} })
wait('a first delta', function() return streams.b.deltas > 0 end)
equal({ cancelled = true, state = 'decoding' }, call('cancel', { generationId = 'b' }), 'cancel')
wait('the cancelled result', function() return story.done end)
equal('cancelled', story.result.stopReason, 'stop reason')
equal(text(story.result), streams.b.text, 'nothing that was said is lost')

local another, id = send('generate', { generationId = 'c', messages = say('Tell me a story.'), tools = {} })
wait('a first delta', function() return streams.c.deltas > 0 end)
rpc.notify('$/cancelRequest', { id = id })
wait('the cancelled result, which Neovim would not show if it were an error', function() return another.done end)
equal('cancelled', another.result.stopReason, 'stop reason')

-- Tools: one that a person approves and that takes a moment.
---@type harmonyd.ToolSpec
local weather = {
  name = 'weather', description = 'Tells the weather.', approval = 'ask',
  inputSchema = {
    type = 'object',
    properties = { place = { type = 'string' }, days = { type = 'integer' } },
    required = { 'place' },
  },
}
local registered = call('tool-register', { tools = { weather } })
local listed = call('tools/list', vim.empty_dict())
equal(registered.registered[1].digest, listed.tools[1].digest, 'digest')
equal(weather.inputSchema, listed.tools[1].inputSchema, 'input schema')

local session = call('session/new', { system = 'Be brief.', tools = { 'weather' } })
local cold = call('generate', { generationId = 'd', sessionId = session.sessionId, messages = say('How is the weather in Oslo?') })
equal('end_turn', cold.stopReason, 'stop reason')
equal('It is cold there.', text(cold), 'text')
equal({ 'weather pending', 'weather running', 'weather running', 'weather completed' }, calls, 'calls')
call('session/close', { sessionId = session.sessionId })

-- Errors.
local _, unknown = call('no/such', vim.empty_dict())
equal(protocol.errors.method_not_found.code, assert(unknown).code, 'code')
local _, refused = call('generate', { prompt = 'a', sampling = { topK = 'many' } })
equal(protocol.errors.invalid_params.code, assert(refused).code, 'code')
equal('/sampling/topK', refused.data.errors[1].instancePath, 'place')
local _, taken = call('tool-register', { tools = { weather } })
equal('tool_conflict', assert(taken).data.kind, 'kind')

-- The end. Nobody closes the pipe: exit alone must do.
local nothing, failed = call('shutdown', vim.empty_dict())
assert(nothing == nil or nothing == vim.NIL)
equal(nil, failed, 'shutdown')
rpc.notify('exit', vim.empty_dict())
wait('the end', function() return exit_code ~= nil end)
equal(0, exit_code, 'exit code')
