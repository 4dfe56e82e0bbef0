// Lambda Runtime API client that passes invocations to the handler.

import { Agent, request } from "node:http";
import { text } from "node:stream/consumers";

import { handler } from "./handler.mjs";

const invocations = `http://${process.env.AWS_LAMBDA_RUNTIME_API}/2018-06-01/runtime/invocation`;
// `fetch` times out after five minutes without a response, and the next invocation may take longer to arrive.
const agent = new Agent({ keepAlive: true, maxSockets: 1 });

for (;;) {
  const { headers, body } = await call("GET", "next");
  const id = headers["lambda-runtime-aws-request-id"];
  let outcome;
  try {
    outcome = ["response", await handler(JSON.parse(body))];
  } catch (error) {
    console.error(error);
    outcome = ["error", { errorType: error.name, errorMessage: error.message }];
  }
  await call("POST", `${id}/${outcome[0]}`, JSON.stringify(outcome[1]));
}

function call(method, path, content) {
  return new Promise((resolve, reject) => {
    const asked = request(`${invocations}/${path}`, { method, agent }, async (answer) => {
      try {
        const body = await text(answer);
        if (answer.statusCode >= 300) {
          throw new Error(`the Runtime API answers ${answer.statusCode} to ${method} ${path}`);
        }
        resolve({ headers: answer.headers, body });
      } catch (error) {
        reject(error);
      }
    });
    asked.on("error", reject);
    asked.end(content);
  });
}
