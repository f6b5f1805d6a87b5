// Run by node, PACKAGE being the folder of @resonatehq/sdk: a worker, or calls.
//
//     PACKAGE work GROUP URL LOG       say "ready" and work until killed
//     PACKAGE call GROUP URL CALLS     call functions of a group in turn, print what came
//     PACKAGE resolve ID URL VALUE     resolve a promise with a value in JSON, print its state
//
// `CALLS` is a JSON array of `[id, function, arguments...]`. What came is a line of JSON for
// each: `{"value": ...}` or `{"error": text}`.

import { appendFileSync, existsSync } from "node:fs";
import { join } from "node:path";
import { pathToFileURL } from "node:url";

// The SDK asks for node 22, which has this; node 20 has all else that it needs.
Promise.withResolvers ??= function () {
  let resolve, reject;
  const promise = new Promise((...both) => ([resolve, reject] = both));
  return { promise, resolve, reject };
};

const TTL_MS = 1000;

// The functions of `shared_functions`, in the words of this SDK.
function functions(who, log) {
  const to = (ctx, group) => ctx.options({ target: `poll://any@${group}` });

  function note(_ctx, what) {
    appendFileSync(log, `${who} ${what}\n`);
    return what;
  }

  function* hello(_ctx, name, punctuation = ".") {
    return `${who} says hello to ${name}${punctuation}`;
  }

  function* link(ctx, number, route) {
    yield* ctx.run(note, `link ${number}`);
    if (route.length === 0) return number;
    const [next, ...rest] = route;
    const deeper = yield* ctx.rpc("link", number + 1, rest, to(ctx, next));
    yield* ctx.run(note, `back ${number}`);
    return deeper + 1;
  }

  function* nap(ctx, seconds) {
    yield* ctx.sleep(seconds * 1000);
    yield* ctx.run(note, "rested");
    return `${who} is rested`;
  }

  function* ask(ctx) {
    const question = yield* ctx.promise();
    return { who, heard: yield* question };
  }

  function* fail(ctx, text) {
    yield* ctx.run(note, "fails");
    throw new Error(text);
  }

  function* caught(ctx, target) {
    try {
      yield* ctx.rpc("fail", "no luck", to(ctx, target));
    } catch (error) {
      return `${who} caught: ${error.message}`;
    }
  }

  function* both(ctx, target) {
    const first = yield* ctx.beginRpc("hello", "one", to(ctx, target));
    const second = yield* ctx.beginRpc("hello", "two", to(ctx, target));
    return [yield* second, yield* first];
  }

  async function passed(ctx, path) {
    note(ctx, "waits");
    while (!existsSync(path)) await new Promise((wake) => setTimeout(wake, 10));
    return "passed";
  }

  function* gate(ctx, path) {
    yield* ctx.run(note, "begins");
    return yield* ctx.run(passed, path);
  }

  function* leave(ctx, target) {
    yield* ctx.detached("link", 9, [], to(ctx, target));
    return "left";
  }

  return { hello, link, nap, ask, fail, catch: caught, both, gate, leave };
}

async function work(Resonate, group, url, log) {
  const resonate = new Resonate({ url, group, ttl: TTL_MS });
  for (const [name, body] of Object.entries(functions(group, log))) resonate.register(name, body);
  console.log("ready");
}

async function call(Resonate, group, url, calls) {
  const resonate = new Resonate({ url, group: "callers", ttl: TTL_MS });
  const options = resonate.options({ target: `poll://any@${group}` });
  for (const [id, name, ...args] of JSON.parse(calls)) {
    try {
      const value = await resonate.rpc(id, name, ...args, options);
      console.log(JSON.stringify({ value: value ?? null }));
    } catch (error) {
      console.log(JSON.stringify({ error: error.message ?? String(error) }));
    }
  }
  process.exit(0); // the SDK's timers would keep it
}

async function resolve(Resonate, id, url, value) {
  const resonate = new Resonate({ url, group: "people", ttl: TTL_MS });
  const { state } = await resonate.promises.resolve(id, { data: btoa(value) });
  console.log(JSON.stringify({ value: state }));
  process.exit(0);
}

const [folder, verb, ...rest] = process.argv.slice(2);
const { Resonate } = await import(pathToFileURL(join(folder, "dist/src/index.js")));
await { work, call, resolve }[verb](Resonate, ...rest);
