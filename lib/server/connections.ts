import type { Server, ServerResponse } from 'node:http';
import type { Duplex } from 'node:stream';
import { ApiError, invalid } from './errors.js';

/** Ends a connection that takes nothing of its answer for so long: what waits for it is memory that nobody else has. */
export function cutStalled(server: Server, ms: number): void {
  server.on('request', (_, response: ServerResponse) => {
    response.setTimeout(ms, () => {
      const { socket } = response;
      // Where nothing waits to be written, it is the answer that takes its time.
      if (socket && socket.writableLength === 0) socket.setTimeout(ms);
      else socket?.destroy();
    });
  });
}

interface ParserError extends Error {
  code?: string;
  reason?: string;
}

/** What is no request that HTTP knows, answered as everything else is. */
export function answerUnreadable(server: Server, maxHeaderSize: number): void {
  const answers = new WeakMap<Duplex, ServerResponse>();
  server.on('request', (request, response: ServerResponse) => answers.set(request.socket, response));
  server.on('clientError', (error: ParserError, socket) => {
    const begun = answers.get(socket);
    // Into an answer that is on its way nothing else may be written.
    if (!socket.writable || (begun?.headersSent && !begun.writableFinished)) return void socket.destroy();
    const its = unreadable(error, maxHeaderSize);
    const body = JSON.stringify(its.body);
    socket.end(
      `HTTP/1.1 ${its.status} ${REASONS[its.status]}\r\nconnection: close\r\ncontent-type: application/json\r\n` +
        `content-length: ${Buffer.byteLength(body)}\r\n\r\n${body}`,
    );
  });
}

const REASONS: Record<number, string> = {
  400: 'Bad Request',
  408: 'Request Timeout',
  431: 'Request Header Fields Too Large',
};

function unreadable({ code, reason, message }: ParserError, maxHeaderSize: number): ApiError {
  if (code === 'HPE_HEADER_OVERFLOW')
    return new ApiError(431, `the request's head has more than ${maxHeaderSize} bytes`, 'request_header_too_large');
  if (code === 'ERR_HTTP_REQUEST_TIMEOUT')
    return new ApiError(408, 'the request did not come whole in time', 'request_timeout');
  return invalid(`the request is not HTTP/1.1: ${(reason ?? message).slice(0, 200)}`, null, 'not_http');
}
