/*
 * position.h: where in a text that the user gave as an argument an error is.
 */
#ifndef SC_BASE_POSITION_H
#define SC_BASE_POSITION_H

/* For error_context_stack while the text, the argument, is parsed. */
extern void sc_text_error_callback(void *arg);

#endif							/* SC_BASE_POSITION_H */
